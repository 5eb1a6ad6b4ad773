from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from skdistill.utils._threads import single_threaded_torch


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_one_thread_inside_and_as_before_outside():
    with single_threaded_torch():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_given_back_after_an_error():
    def fail():
        with single_threaded_torch():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_threads_of_a_process_leave_each_other_alone():
    inside, left = Barrier(2), Barrier(2)

    def leave_first():
        with single_threaded_torch():
            inside.wait(10)
        after = torch.get_num_threads()
        left.wait(10)
        return after

    def leave_last():
        with single_threaded_torch():
            inside.wait(10)
            left.wait(10)
            during = torch.get_num_threads()
        return during, torch.get_num_threads()

    with ThreadPoolExecutor() as pool:
        first, last = pool.submit(leave_first), pool.submit(leave_last)
        assert first.result() == 2
        assert last.result() == (1, 2)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


@pytest.mark.usefixtures("two_threads")
def test_block_in_a_block():
    with single_threaded_torch():
        with single_threaded_torch():
            pass
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
