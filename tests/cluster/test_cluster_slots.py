"""The places for spares on a node: as many processes as there are, and none for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rivet_ray.cluster.slots import Slots

HOLDER = """
import sys
from pathlib import Path
from rivet_ray.cluster import spares
spares.WATCH = 0.01
slots = spares.Slots(Path(sys.argv[1]), 2)
print(slots.take(), flush=True)
spares._watch(slots)
print("left", flush=True)
"""


@contextmanager
def holder(directory: Path) -> Generator[subprocess.Popen[str]]:
    """A process that has taken a slot and does what a spare does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "True\n"
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
    assert first.release()
    assert not first.release(), "it has none any more"
    assert third.take()
    assert second.release()
    assert third.release()


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
