"""A SIGTERM ends the process, but after what it interrupts has put its things away."""

import os
import signal
import threading

import pytest

from skdistill.utils._termination import Termination, orderly_end

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_child(work):
    """Run a function in a forked process; return how it ended, and what it wrote."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            # Ray leaves one of its own in a process in which it was started.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work(lambda text: os.write(writing, text.encode()))
        except BaseException as error:
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(7)
    os.close(writing)
    with open(reading) as file:
        written = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_blocks_are_left_and_the_process_dies_of_the_signal():
    def work(write):
        with orderly_end(), orderly_end():
            try:
                terminate()
                write("went on")
            finally:
                # A second one does not cut it off.
                terminate()
                write("put away")
        write("went on")

    assert in_child(work) == (-signal.SIGTERM, "put away")


def test_it_can_wait():
    def work(write):
        with orderly_end(at_once=False) as request:
            write(f"{request.received} ")
            terminate()
            write(f"{request.received}")
        write("went on")

    assert in_child(work) == (-signal.SIGTERM, "False True")


def test_a_termination_that_is_swallowed_is_none_the_less_one():
    def work(write):
        with orderly_end():
            try:
                terminate()
            except Termination:
                write("swallowed")
        write("went on")

    assert in_child(work) == (-signal.SIGTERM, "swallowed")


def test_without_signal_all_is_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="own"), orderly_end() as request:
        raise ValueError("own")
    assert not request.received
    assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_of_others_are_left_alone():
    def work(write):
        signal.signal(signal.SIGTERM, lambda *_: write("theirs"))
        with orderly_end() as request:
            terminate()
        write(f" {request.received}")

    assert in_child(work) == (7, "theirs False")


def test_other_threads_have_none():
    def inside():
        with orderly_end() as request:
            found.append(request.received)

    found = []
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [False]
