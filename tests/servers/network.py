"""A network of two machines on which packets can vanish: no reset, no goodbye.

Both are network namespaces of Linux, joined by a cable of two veth devices; they end
with the process, whatever becomes of it. A socket stays in the namespace of the
thread that made it, so one event loop can use sockets of both machines.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

CLONE_NEWNET = 0x40000000
HERE, THERE = "10.213.0.1", "10.213.0.2"
NOBODY = "02:00:00:00:00:99"
_MACS = {HERE: "02:00:00:00:00:01", THERE: "02:00:00:00:00:02"}

T = TypeVar("T")


class Network:
    """`HERE` is the machine of the test's thread, `THERE` the other one."""

    def __init__(self, here: int, there: int) -> None:
        self._here, self._there = here, there
        path = f"/proc/{os.getpid()}/fd/{there}"
        self._within(
            "here",
            _ip,
            f"link add cable address {_MACS[HERE]} type veth "
            f"peer name cable address {_MACS[THERE]} netns {path}",
        )
        for side, own in (("here", HERE), ("there", THERE)):
            self._within(side, _ip, "link set lo up")
            self._within(side, _ip, f"address add {own}/24 dev cable")
            self._within(side, _ip, "link set cable up")
        self.returns()

    def listen(self, make: Callable[[str, int], socket.socket]) -> socket.socket:
        """A listening socket of `THERE`, which `make` makes of an address and a port."""
        return self._within("there", make, THERE, 0)

    def connect(self, port: int) -> socket.socket:
        """A socket of `THERE`, connected to that port of `HERE`."""
        return self._within("there", socket.create_connection, (HERE, port))

    def vanishes(self, towards: str | None = None) -> None:
        """What is sent towards that machine arrives nowhere; None for both directions."""
        self._lead(NOBODY, towards)

    def returns(self) -> None:
        for to in (HERE, THERE):
            self._lead(_MACS[to], to)

    def _lead(self, mac: str, towards: str | None) -> None:
        for side, to in (("here", THERE), ("there", HERE)):
            if towards in (None, to):
                self._within(
                    side, _ip, f"neighbour replace {to} lladdr {mac} nud permanent dev cable"
                )

    def _within(self, side: str, act: Callable[..., T], *arguments: object) -> T:
        return _in_thread(self._here if side == "here" else self._there, act, *arguments)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """The test's thread is on a machine of its own until the end of the block."""
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2, to make networks")
    before = _current()
    opened = [before]
    try:
        opened += [_in_thread(None, _current) for _ in range(2)]
        made = Network(*opened[1:])
        _enter(opened[1])
        try:
            yield made
        finally:
            _enter(before)
    except PermissionError:
        pytest.skip("needs the right to make network namespaces")
    finally:
        for namespace in opened:
            os.close(namespace)


def _in_thread(namespace: int | None, act: Callable[..., T], *arguments: object) -> T:
    """In a thread that is in that namespace, or in a new one."""

    def run() -> T:
        if namespace is not None:
            _enter(namespace)
        else:
            _checked(_libc.unshare(CLONE_NEWNET))
        return act(*arguments)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _enter(namespace: int) -> None:
    _checked(_libc.setns(namespace, CLONE_NEWNET))


_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)
