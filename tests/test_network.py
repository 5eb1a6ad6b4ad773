"""No test reaches another machine; those of documentation (RFC 5737) would be none."""

import socket
import urllib.request

import pytest


@pytest.mark.parametrize(
    "use",
    [
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.create_connection(("2001:db8::1", 80), timeout=1),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.getaddrinfo(b"example.org", 443),
        lambda: urllib.request.urlopen("https://example.org", timeout=1),
        lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    ],
    ids=["IPv4", "IPv6", "name", "bytes", "urllib", "datagram"],
)
def test_other_machines_are_refused(use):
    with pytest.raises(pytest.fail.Exception, match="must not use the network"):
        use()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_not(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection((host, port), timeout=10).close()
