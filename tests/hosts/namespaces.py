"""A switch, and hosts with a cable each, made of Linux namespaces; all is gone when the block ends."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
_PROGRAMS = ("ip", "unshare", "nsenter", "setpriv")
_NETWORK = "10.77.0."
_MOST = 9
_LIMIT_S = 30
# Root needs no user namespace, and some containers forbid them; others have them instead of root.
_AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
_INTO_ROOT = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]

# A folder that is under /tmp is bound into the new one first. The first process of a host adopts what others
# leave, so it has to reap, which bash does.
_BEGIN = """
set -e
mount --bind "$names" /etc/hosts
mount -t tmpfs tmpfs "$private"
for folder in $kept; do
    case "$folder" in /tmp/*) mkdir -p "$private${folder#/tmp}"
        mount --rbind "$folder" "$private${folder#/tmp}" ;; esac
done
mkdir -m 700 "$private/home"
mount --rbind "$private" /tmp
mount -t tmpfs tmpfs /dev/shm
hostname "$name"
ip link set lo up
echo ready
while :; do sleep 1000 & wait $!; done
"""


class UnavailableError(Exception):
    """This machine cannot make hosts; says why."""


class Host:
    """A host that is up.

    Args:
        name: its host name.
        address: IPv4, on the switch.
        process: what ends it.
        first: outside, the process id of its first process.
    """

    def __init__(self, name: str, address: str, process: subprocess.Popen[str], first: int) -> None:
        self.name, self.address = name, address
        self._process, self._first = process, first

    def command(self, *words: str) -> list[str]:
        """What runs `words` there, in its /tmp, when it is started here."""
        inside = ("--mount", "--uts", "--ipc", "--net", "--pid")
        return [
            *("nsenter", "--target", str(self._first), *_INTO_ROOT, *inside, "--"),
            *("env", "--chdir=/tmp", *words),
        ]

    def start(self, *words: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a command there; what it prints is added to a file here."""
        with log.open("a") as said:
            return subprocess.Popen(
                self.command(*words), env={**environment, "HOME": "/tmp/home"}, stdout=said, stderr=said
            )

    def run(self, *words: str, environment: Mapping[str, str], limit_s: float = 120) -> str:
        """Carry out a command there; what it printed.

        Raises:
            AssertionError: it failed; with what it printed.
        """
        done = subprocess.run(
            self.command(*words),
            **_captured(limit_s),
            env={**environment, "HOME": "/tmp/home"},
        )
        assert done.returncode == 0, f"{self.name}: {shlex.join(words)}: {done.stdout}"
        return str(done.stdout)

    def end(self) -> None:
        """End all of its processes; its files are gone with them."""
        self._process.kill()
        self._process.wait(_LIMIT_S)


class Switch:
    """Joins hosts.

    Args:
        process: lives in the switch's network namespace.
        folder: for what hosts are told.
        shared: the folder that all hosts see.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path, shared: Path) -> None:
        self._process, self._folder, self.shared = process, folder, shared
        self._hosts: list[Host] = []
        self._made = 0
        lines = [f"{_NETWORK}{10 + number} host-{number}" for number in range(1, _MOST + 1)]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def ip(self, *words: str) -> None:
        """The command `ip`, on the switch."""
        words = ("nsenter", "--target", str(self._process.pid), *_INTO_ROOT, "--net", "--", "ip", *words)
        _done(words)

    def host(self) -> Host:
        """One more host, on its cable."""
        self._made += 1
        name, address = f"host-{self._made}", f"{_NETWORK}{10 + self._made}"
        private = Path(tempfile.mkdtemp(dir=self._folder))
        kept = [str(self.shared), str(ROOT), sys.prefix, str(Path(sys.executable).resolve().parents[1])]
        told = {"private": str(private), "kept": " ".join(kept), "name": name}
        apart = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
        into = ("nsenter", "--target", str(self._process.pid), *_INTO_ROOT) if _INTO_ROOT else ()
        process = _begun(
            [*into, "unshare", *apart, "bash", "-c", _BEGIN],
            {**os.environ, **told, "names": str(self._folder / "hosts")},
        )
        [first] = psutil.Process(process.pid).children()
        host = Host(name, address, process, first.pid)
        self._hosts.append(host)
        self.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(first.pid))
        self.ip("link", "set", name, "master", "switch", "up")
        inside = ("nsenter", "--target", str(first.pid), *_INTO_ROOT, "--net", "--", "ip")
        _done([*inside, "address", "add", f"{address}/24", "dev", "eth0"])
        _done([*inside, "link", "set", "eth0", "up"])
        # To nowhere, but programs ask for it to learn which address is theirs.
        _done([*inside, "route", "add", "default", "via", f"{_NETWORK}1"])
        return host

    def unplug(self, host: Host) -> None:
        """Cut its cable."""
        self.ip("link", "set", host.name, "down")

    def plug(self, host: Host) -> None:
        """Mend its cable."""
        self.ip("link", "set", host.name, "up")

    def remove(self, host: Host) -> None:
        """As if its plug were pulled."""
        self._hosts.remove(host)
        host.end()
        with suppress(OSError):  # it goes with the host's network, sooner or later
            self.ip("link", "delete", host.name)

    def close(self) -> None:
        """End all."""
        for host in self._hosts:
            host.end()
        self._process.kill()
        self._process.wait(_LIMIT_S)


@contextmanager
def switch(shared: Path) -> Iterator[Switch]:
    """A switch without hosts.

    Args:
        shared: the folder that all hosts will see, under the same name.

    Raises:
        UnavailableError: a program is missing, or the kernel refuses namespaces to this process.
    """
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        raise UnavailableError(f"there is no {', '.join(missing)} (packages iproute2 and util-linux)")
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder:
        try:
            process = _begun(
                ["unshare", *_AS_ROOT, "--net", "sh", "-c", "echo ready; exec sleep infinity"], os.environ
            )
        except OSError as error:
            raise UnavailableError(f"no network namespaces: {error}") from error
        made = Switch(process, Path(folder), shared)
        try:
            try:
                made.ip("link", "add", "switch", "type", "bridge")
                made.ip("address", "add", f"{_NETWORK}1/24", "dev", "switch")
                made.ip("link", "set", "switch", "up")
                made.remove(made.host())
            except OSError as error:
                raise UnavailableError(f"no hosts of namespaces: {error}") from error
            yield made
        finally:
            made.close()


def _begun(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process that has said "ready"; it ends with this one, however that ends.

    Raises:
        OSError: it ended instead; with what it printed.
    """
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *words],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    if said != "ready\n":
        process.kill()
        said += process.communicate(timeout=_LIMIT_S)[0]
        raise OSError(said.strip())
    return process


def _done(words: Sequence[str]) -> None:
    done = subprocess.run(words, **_captured(_LIMIT_S))
    if done.returncode:
        raise OSError(f"{shlex.join(words)}: {done.stdout.strip()}")


def _captured(limit_s: float) -> dict[str, Any]:
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return {"check": False, "text": True, "timeout": limit_s, **output}
