import contextvars
import os
import signal
import threading
import time

import pytest
import sklearn
import torch

from skdistill.utils._workers import map_pieces, n_threads, worker_threads


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def meet(barrier):
    """Return whether so many threads are here at the same time."""
    barrier.wait(timeout=20)
    return threading.get_ident()


def test_pieces_are_computed_at_once_each_with_one_thread():
    barrier = threading.Barrier(3)
    before = threading.active_count()
    with worker_threads():
        assert n_threads() == 3
        idents = map_pieces(lambda _: meet(barrier), range(3))
        numbers = map_pieces(lambda _: torch.get_num_threads(), range(20))
        assert torch.get_num_threads() == 1
    assert len(set(idents)) == 3
    assert set(numbers) == {1}
    assert threading.active_count() == before
    assert n_threads() == 1


def test_results_come_in_the_order_of_the_pieces():
    with worker_threads():
        found = map_pieces(lambda n: (time.sleep(0.01 * (5 - n)), n)[1], range(5))
    assert found == list(range(5))


def test_without_threads_pieces_are_computed_here():
    idents = map_pieces(lambda _: threading.get_ident(), range(4))
    assert set(idents) == {threading.get_ident()}
    assert map_pieces(str, []) == []


def test_pieces_have_pieces_and_idle_threads_help_with_them():
    barrier = threading.Barrier(3)

    def outer(n):
        if n == 0:
            # The other two threads are through with their pieces, and come to help.
            return len(set(map_pieces(lambda _: meet(barrier), range(3))))
        return map_pieces(lambda m: 10 * n + m, range(4))

    with worker_threads():
        found = map_pieces(outer, range(3))
    assert found == [3, [10, 11, 12, 13], [20, 21, 22, 23]]


def test_a_gpu_is_given_work_by_one_thread():
    with worker_threads(torch.device("cuda")):
        assert n_threads() == 1
    with worker_threads():
        with worker_threads(torch.device("cuda")):
            idents = map_pieces(lambda _: threading.get_ident(), range(4))
            assert set(idents) == {threading.get_ident()}
        assert n_threads() == 3


def test_inner_blocks_share_the_threads_of_the_outer_one():
    with worker_threads():
        before = threading.active_count()
        with worker_threads():
            assert n_threads() == 3
            assert threading.active_count() == before
        assert n_threads() == 3

        def inner(_):
            with worker_threads():
                return n_threads(), torch.get_num_threads()

        assert set(map_pieces(inner, range(6))) == {(3, 1)}


def test_the_first_error_is_raised_after_all_pieces():
    done = []

    def fail(n):
        time.sleep(0.01)
        if n in (2, 4):
            raise ValueError(f"piece {n}")
        done.append(n)

    with worker_threads():
        with pytest.raises(ValueError, match="piece 2"):
            map_pieces(fail, range(6))
        assert sorted(done) == [0, 1, 3, 5]
        assert map_pieces(lambda n: n, range(4)) == [0, 1, 2, 3]


def test_helpers_have_the_callers_modes():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(1)
    barrier = threading.Barrier(3)

    def modes(_):
        meet(barrier)
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            sklearn.get_config()["assume_finite"],
            variable.get(),
        )

    with worker_threads(), sklearn.config_context(assume_finite=True):
        with torch.no_grad():
            assert set(map_pieces(modes, range(3))) == {(False, False, True, 1)}
        with torch.inference_mode():
            assert set(map_pieces(modes, range(3))) == {(False, True, True, 1)}
        with torch.enable_grad():
            assert set(map_pieces(modes, range(3))) == {(True, False, True, 1)}


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no such signals")
def test_an_interrupt_ends_the_work_of_all_threads_soon():
    started = threading.Barrier(4)
    n_done = []

    def endless(n):
        started.wait(timeout=20)
        for _ in range(10_000):
            map_pieces(lambda _: time.sleep(0.005), range(2))
        n_done.append(n)

    def interrupt():
        started.wait(timeout=20)
        os.kill(os.getpid(), signal.SIGINT)

    begin = time.monotonic()
    # What a shell starts in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with worker_threads():
            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                map_pieces(endless, range(3))
            assert map_pieces(lambda n: n, range(4)) == [0, 1, 2, 3]
    finally:
        signal.signal(signal.SIGINT, before)
    assert not n_done
    assert time.monotonic() - begin < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_computes_alone():
    with worker_threads():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            found = map_pieces(lambda n: n, range(4))
            os.write(writer, bytes([*found, n_threads()]))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 10) == bytes([0, 1, 2, 3, 1])
        os.close(reader)
        os.close(writer)


def test_nothing_of_the_work_is_kept():
    class Thing:
        pass

    import gc
    import weakref

    with worker_threads():
        things = [weakref.ref(thing) for thing in map_pieces(lambda _: Thing(), [1, 2])]
        gc.collect()
        assert all(thing() is None for thing in things)
