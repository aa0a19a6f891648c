"""What of a cluster of one machine others can see: no secret, and no port beyond its host."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_worlds import ServeProcess
from redis_server import RedisServer

pytestmark = pytest.mark.timeout(300)

PASSWORD, SECRET = "hunter2hunter2", "a secret of the cluster that nobody may see"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, "--requirepass", PASSWORD).start()
    yield server
    server.stop()


def listeners(processes: dict[int, str]) -> set[str]:
    """The addresses on which these processes listen, without those of the loopback."""
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    return {
        f"{line.split()[3]} {line.split()[-1]}"
        for line in lines.splitlines()
        if {int(number) for number in re.findall(r"pid=(\d+)", line)} & processes.keys()
        and not line.split()[3].startswith(("127.", "[::1]", "[::ffff:127."))
    }


def directories() -> set[Path]:
    """What the clusters of this machine keep on its disk."""
    return set(Path(tempfile.gettempdir()).glob("rivet-ray-*"))


def no_argument_shows_a_secret(processes: dict[int, str]) -> None:
    for number in processes:
        try:
            shown = Path(f"/proc/{number}/cmdline").read_bytes().decode()
        except FileNotFoundError:
            continue  # It has ended.
        assert PASSWORD not in shown
        assert SECRET not in shown


def no_file_holds_a_secret(kept: set[Path]) -> None:
    assert kept
    for directory in kept:
        assert directory.stat().st_mode & 0o077 == 0
        for path in directory.rglob("*"):
            if path.is_file() and os.access(path, os.R_OK):
                text = path.read_bytes()
                assert PASSWORD.encode() not in text, path
                assert SECRET.encode() not in text, path


async def test_no_secret_is_shown_and_two_clusters_stand_side_by_side(
    guarded: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIVET_CLUSTER_SECRET", SECRET)
    before = directories()
    url = f"redis://:{PASSWORD}@{guarded.address}/0?prefix="
    served, second = (ServeProcess(f"{url}{name}", "coordinate") for name in ("one", "two"))
    try:
        await served.start()
        await second.start()
        assert served.process is not None
        processes = {**served.processes(), served.process.pid: ""}
        no_argument_shows_a_secret(processes)
        no_file_holds_a_secret(directories() - before)
        assert listeners(processes) == set()
        assert listeners(second.processes()) == set()
    finally:
        await second.end()
        await served.end()
