"""The places for spares on a node: as many processes as there are, and none for the dead."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rivet_ray.cluster.slots import Slots

HOLDER = """
import sys
from pathlib import Path
from rivet_ray.cluster import spares
spares.WATCH = 0.01
spares.SURPLUS = float(sys.argv[2])
slots = spares.Slots(Path(sys.argv[1]), 2)
print(slots.take(), flush=True)
spares._watch(slots)
print("left", flush=True)
"""


@contextmanager
def holder(
    directory: Path, takes: bool = True, surplus: float = 60.0
) -> Generator[subprocess.Popen[str]]:
    """A process that does what a spare does, and whether it gets a slot at once."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory), str(surplus)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == f"{takes}\n"
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_there_are_as_many_as_said(tmp_path: Path) -> None:
    first, second, third = (Slots(tmp_path, 2) for _ in range(3))
    assert first.free() == 2
    assert first.take()
    assert (first.taken, second.taken) == (True, False)
    assert second.free() == 1
    assert second.take()
    assert not third.take()
    assert third.free() == 0
    assert first.leave()
    assert not first.leave(), "it has left already"
    assert not first.take(), "for good"
    assert third.take()
    assert third.take(), "the same"
    assert second.free() == 0
    assert second.leave()
    assert third.leave()
    assert second.free() == 2


def free_within(slots: Slots, number: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while slots.free() != number and time.monotonic() < until:
        time.sleep(0.01)
    return slots.free() == number


def test_one_that_came_too_many_takes_the_next_that_is_free(tmp_path: Path) -> None:
    first, second = Slots(tmp_path, 2), Slots(tmp_path, 2)
    assert first.take()
    assert second.take()
    with holder(tmp_path, takes=False) as process:
        assert first.leave()
        assert free_within(second, 0)
        assert second.leave()
        assert free_within(second, 1)
        assert process.poll() is None


def test_one_that_came_too_many_ends_where_none_gets_free(tmp_path: Path) -> None:
    slots = [Slots(tmp_path, 2), Slots(tmp_path, 2)]
    assert all(one.take() for one in slots)
    with holder(tmp_path, takes=False, surplus=0.2) as process:
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "", "it ends at once"
    with (
        holder(tmp_path / "other", surplus=0.2) as process,
        pytest.raises(subprocess.TimeoutExpired),
    ):
        process.wait(1.0)  # It has a slot.


def test_who_looks_how_many_are_free_keeps_nobody_out(tmp_path: Path) -> None:
    """A look holds each for a moment, in which a worker may come."""
    looks = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(2)]
    for look in looks:
        fcntl.flock(look, fcntl.LOCK_EX)
    with holder(tmp_path, takes=False):
        for look in looks:
            os.close(look)
        assert free_within(Slots(tmp_path, 2), 1)


def test_those_of_the_dead_are_free(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 2)
    with holder(tmp_path) as process:
        assert slots.free() == 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert slots.free() == 2


def test_one_process_fills_at_a_time(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 2)
    with slots.filling():
        busy = subprocess.run(["flock", "--nonblock", tmp_path / "filling", "true"], check=False)
        assert busy.returncode == 1
    free = subprocess.run(["flock", "--nonblock", tmp_path / "filling", "true"], check=False)
    assert free.returncode == 0


def test_a_later_release_ends_the_spares_of_earlier_ones(tmp_path: Path) -> None:
    """They have imported the code of theirs."""
    with holder(tmp_path / "1") as early, holder(tmp_path / "2") as late:
        Slots(tmp_path / "2", 2).retire_others()
        assert early.wait(20) == 0
        assert early.stdout is not None
        assert early.stdout.read() == "", "it ends at once"
        assert late.poll() is None
        assert Slots(tmp_path / "1", 2).retired
        assert not Slots(tmp_path / "2", 2).retired
    # A host of the earlier one that is started again is nobody's spare.
    assert not Slots(tmp_path / "1", 2).take()
    # Back to the earlier one.
    Slots(tmp_path / "1", 2).retire_others()
    assert not Slots(tmp_path / "1", 2).retired
    assert Slots(tmp_path / "2", 2).retired
