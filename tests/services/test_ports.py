"""Ports for what starts yet."""

import socket
from pathlib import Path

import pytest

from services.base import ports
from services.base.ports import free_port


def test_a_port_is_none_of_those_that_the_kernel_gives_to_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first <= 20_000:
        pytest.skip("this machine gives nearly all of its ports to connections")
    for _ in range(20):
        assert 20_000 <= free_port() < first


def test_what_is_listened_on_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = int(listening.getsockname()[1])
        free = free_port()
        drawn = iter([taken, taken, free])
        monkeypatch.setattr(ports, "_drawn", lambda: next(drawn))
        assert free_port() == free
        monkeypatch.setattr(ports, "_drawn", lambda: taken)  # and where all that are drawn are taken
        assert free_port() not in (0, taken)


@pytest.mark.parametrize(
    "said", ["1024\t65535\n", "", "nothing of the kind"], ids=["all are", "empty", "no numbers"]
)
def test_without_ports_of_ones_own_the_kernel_chooses(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").write_text(said)
    monkeypatch.setattr(ports, "_FOR_CONNECTIONS", tmp_path / "range")
    port = free_port()
    assert port > 0
    socket.create_server(("127.0.0.1", port)).close()


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        free_port("192.0.2.1")  # TEST-NET-1 of RFC 5737
