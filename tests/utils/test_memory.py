import ctypes
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest

import skdistill.utils._memory as module
from skdistill.utils._memory import reused_memory

MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -4, -3, -1
LARGEST = 2**31 - 1

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's"
)


class FakeLibrary:
    """Writes down what is asked of it, and what is set."""

    def __init__(self):
        self.calls = []
        self.values = {}

    def mallopt(self, parameter, value):
        self.calls.append("mallopt")
        self.values[parameter] = value
        return 1

    def malloc_trim(self, pad):
        assert pad == 0
        self.calls.append("malloc_trim")
        return 1

    @property
    def keeps(self):
        """Whether freed memory stays with the process."""
        return self.values[MMAP_MAX] == 0 and self.values[TRIM_THRESHOLD] == LARGEST

    @property
    def is_set_back(self):
        return (
            self.values[MMAP_MAX] == 65536
            and self.values[TRIM_THRESHOLD] < LARGEST
            and self.values[MMAP_THRESHOLD] == 32 * 2**20
            and self.calls[-1] == "malloc_trim"
        )


@pytest.fixture
def library(monkeypatch):
    library = FakeLibrary()
    monkeypatch.setattr(module, "_gnu_library", lambda: library)
    return library


def test_memory_is_kept_inside_and_given_back_after(library):
    with reused_memory():
        assert library.keeps
        assert "malloc_trim" not in library.calls
    assert library.is_set_back
    assert library.calls.count("malloc_trim") == 1


def test_only_the_outermost_block_counts(library):
    with reused_memory():
        n_calls = len(library.calls)
        with reused_memory(), reused_memory():
            assert library.keeps
        assert library.keeps
        assert len(library.calls) == n_calls
    assert library.is_set_back
    assert library.calls.count("malloc_trim") == 1


def test_blocks_one_after_the_other_ask_anew(library):
    for n in (1, 2, 3):
        with reused_memory():
            assert library.keeps
        assert library.is_set_back
        assert library.calls.count("malloc_trim") == n


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_given_back_after_an_error(library, error):
    def fail():
        with reused_memory(), reused_memory():
            raise error

    with pytest.raises(error):
        fail()
    assert library.is_set_back
    assert module._n_inside == 0


def test_the_last_of_all_threads_gives_back(library):
    both_inside, first_is_out = threading.Barrier(2), threading.Event()
    seen = {}

    def first():
        with reused_memory():
            both_inside.wait(10)
        seen["first is out"] = library.keeps
        first_is_out.set()

    def second():
        with reused_memory():
            both_inside.wait(10)
            first_is_out.wait(10)
            seen["second is in"] = library.keeps

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == {"first is out": True, "second is in": True}
    assert library.is_set_back
    assert library.calls.count("malloc_trim") == 1


def test_many_threads_leave_nothing_behind(library):
    ready = threading.Barrier(8)

    def work():
        ready.wait(10)
        for _ in range(200):
            with reused_memory():
                assert library.keeps

    failed = []

    def watched():
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=watched) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failed
    assert module._n_inside == 0
    assert library.is_set_back


def test_nothing_happens_with_another_library(monkeypatch):
    monkeypatch.setattr(module, "_gnu_library", lambda: None)
    with reused_memory():
        assert module._n_inside == 0
    with pytest.raises(KeyError), reused_memory():
        raise KeyError
    assert module._n_inside == 0


@pytest.mark.parametrize("version", [("", ""), ("libc", "1.2"), ("musl", "1.2.5")])
def test_other_libraries_are_not_even_opened(monkeypatch, version):
    def opened(name):
        raise AssertionError("opened")

    monkeypatch.setattr(platform, "libc_ver", lambda: version)
    monkeypatch.setattr(ctypes, "CDLL", opened)
    assert module._gnu_library() is None
    with reused_memory():
        pass


def test_library_without_the_function(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.99"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert module._gnu_library() is None


@needs_glibc
def test_real_library_takes_the_settings():
    library = module._gnu_library()
    results = []

    class Spy:
        def mallopt(self, *arguments):
            results.append(library.mallopt(*arguments))

        def malloc_trim(self, pad):
            library.malloc_trim(pad)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_gnu_library", Spy)
        with reused_memory():
            pass
    # mallopt(3) returns 1 on success.
    assert len(results) >= 4
    assert set(results) == {1}


@needs_glibc
def test_large_arrays_in_threads_too():
    """The arena of a thread holds 64 MiB; what is larger comes from elsewhere."""
    found = []

    def work():
        with reused_memory():
            found.append(np.ones(20 * 2**20).sum())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert found == [20 * 2**20]


def count_page_faults(body):
    """Run statements in a fresh process; return the list of numbers they found.

    It has but the one module: whatever else is loaded asks for memory of its own.
    """
    program = f"""
import resource, runpy
reused_memory = runpy.run_path({module.__file__!r})["reused_memory"]
found = []

def use(n_blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (3 * 2**20) for _ in range(n_blocks)]
    del blocks
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

{body}
print(*found)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return [int(number) for number in done.stdout.split()]


@needs_glibc
def test_system_clears_each_page_but_once():
    first, *later = count_page_faults("""
with reused_memory():
    for _ in range(4):
        use(20)
""")
    assert first > 100  # fewer than 60 MiB / 4 KiB where pages are huge
    assert max(later) < first / 20


@needs_glibc
def test_process_is_no_slower_after_the_block_than_without_it():
    """A C library left alone soon keeps a block of 3 MiB for the next one."""
    alone = count_page_faults("for _ in range(6): use(1)")
    after = count_page_faults("""
with reused_memory():
    use(1)
for _ in range(6):
    use(1)
""")[1:]
    assert after[-1] <= alone[-1] + 50
