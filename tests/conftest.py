"""What all tests share."""

import functools
import importlib.util
import ipaddress
import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Programs, no modules with doctests.
collect_ignore = ["fuzz", "soak.py"]

os.environ.setdefault("MPLBACKEND", "agg")
# Where plain PyTorch computes here with several threads, these shall sleep and not spin
# while they wait: on a busy machine they would wait most of the time.  Read once, by
# OpenMP, when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Without it scikit-learn skips its checks of arrays of other libraries.  SciPy reads it
# when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# A shared machine is slow at times: no deadline, but a way to repeat what failed.  New
# cases are looked for at the developers', where a find is no riddle about a change.
settings.register_profile(
    "skdistill", deadline=None, print_blob=True, derandomize="CI" in os.environ
)
settings.load_profile("skdistill")


def _refuse_network(event, arguments):
    """Fail what would reach another machine; an audit hook sees all sockets of Python.

    Clusters connect to this machine under its own name and addresses.  To learn these,
    they "connect" a socket of datagrams to the outside, which sends nothing.
    """
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        connection, address = arguments[:2]
        is_silent = event == "socket.connect" and connection.type == socket.SOCK_DGRAM
        if connection.family == getattr(socket, "AF_UNIX", None) or is_silent:
            return
        host = address[0] if isinstance(address, tuple) else None
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host and not _is_here(host, is_looked_up=event == "socket.getaddrinfo"):
        pytest.fail(f"tests must not use the network; {event} of {host}")


@functools.cache
def _is_here(host, is_looked_up):
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        own = socket.gethostname().partition(".")[0]
        return host == "localhost" or host.partition(".")[0] == own
    if is_looked_up or address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family) as own:
        try:
            own.bind((host, 0))  # which only this machine's own addresses allow
        except OSError:
            return False
    return True


def pytest_configure():
    sys.addaudithook(_refuse_network)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.accelerator.is_available():
            pytest.skip("torch finds no GPU")


def pytest_collection_modifyitems(items):
    """Skip docstrings' examples that older versions of scikit-learn cannot run."""
    if importlib.util.find_spec("sklearn.callback") is None:
        skip = pytest.mark.skip(reason="this version of scikit-learn has no callbacks")
        for item in items:
            if isinstance(item, pytest.DoctestItem) and (
                "set_callbacks" in item.dtest.docstring
            ):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real galaxies and images next to the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there")
    return folder
