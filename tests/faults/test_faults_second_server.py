"""Two servers on one store directory: the second says so in one line and leaves."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from faults_clients import Raw
from faults_server import HERE, Server, dev, environment


def second(store: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        dev("faults_actors:App", store),
        cwd=HERE,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def append(server: Server, token: str) -> int:
    client = Raw(server.url)
    try:
        result = await client.call("k", "append", token)
        assert result.told == "answer", result
        place: int = result.answer
        return place
    finally:
        await client.aclose()


async def test_a_second_server_is_one_clear_line(tmp_path: Path) -> None:
    """C1: exit status 1, one line on stderr that names the directory; the first serves on."""
    with Server("faults_actors:App", tmp_path) as server:
        assert await append(server, "a") == 1
        began = time.monotonic()
        result = second(tmp_path)
        took = time.monotonic() - began
        assert await append(server, "b") == 2
        assert server.process.poll() is None
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert str(tmp_path) in result.stderr
    assert str(server.process.pid) in result.stderr
    assert "serves" not in result.stdout, "it said that it serves, and does not"
    assert took < 10


async def test_the_store_is_free_after_kill_9(tmp_path: Path) -> None:
    """The lock of a server that was killed keeps nobody out, nor does that of one that ended."""
    for place, by in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGINT), 1):
        with Server("faults_actors:App", tmp_path) as server:
            assert await append(server, str(place)) == place
            server.end(by)
            assert "Traceback" not in server.output
