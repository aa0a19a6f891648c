"""SIGTERM ends a process within its grace, whatever user code does (A1, item 3 of issue 14)."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from dev_server import DevServer

HERE = Path(__file__).parent
GRACE = 4.0
SLACK = 6.0
"""Seconds of a machine under load."""
WAYS = ["never_stop", "block", "start_thread", "use_executor"]


def call(server: DevServer, action: str) -> object:
    query = json.dumps({"getOrCreateForKey": {"name": "stuck", "key": ["k"]}})
    request = urllib.request.Request(
        f"{server.url}/registry/actors/actions/{action}",
        data=b'{"a":[]}',
        headers={"X-RivetKit-Encoding": "json", "X-RivetKit-Query": query},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response).get("o")
    except (OSError, urllib.error.URLError):
        return None  # It was cut off.


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer("shutdown_actors:App", "--grace", str(GRACE), cwd=HERE) as server:
        yield server


def stuck(server: DevServer, way: str) -> None:
    """Get the process into that state."""
    assert call(server, "add") == 1
    if way != "block":
        call(server, way)
        return
    threading.Thread(target=call, args=(server, way), daemon=True).start()
    assert server.process.stdout is not None
    for line in server.process.stdout:
        server.lines.append(line)
        if line == "blocking\n":
            return


@pytest.mark.parametrize("way", WAYS)
def test_sigterm_ends_it_within_its_grace(server: DevServer, way: str) -> None:
    stuck(server, way)
    began = time.monotonic()
    code = server.stop(signal.SIGTERM)
    took = time.monotonic() - began
    assert took < GRACE + SLACK
    said = "".join(server.lines)
    assert code == 1
    assert took >= GRACE - 0.1
    assert f"its stop was not over after {GRACE:g} s" in said
    if way == "never_stop":
        assert "on_stop took longer" in said
    if way != "block":
        assert "may not be saved: none" in said
    if way == "start_thread":
        assert "of-the-user" in said
    with DevServer(
        "shutdown_actors:App", "--store", f"file://{server.directory.name}", cwd=HERE
    ) as again:
        assert call(again, "add") == (100 if way == "never_stop" else 2), "C2"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals, tmp_path: Path) -> None:
    arguments = ["shutdown_actors:App", "--grace", "60", "--store", f"file://{tmp_path}"]
    with DevServer(*arguments, cwd=HERE) as server:
        stuck(server, "block")
        server.process.send_signal(number)
        time.sleep(0.5)  # Two signals at once may arrive as one.
        began = time.monotonic()
        assert server.stop(number) == 128 + number
        assert time.monotonic() - began < SLACK
        assert f"a second {number.name}" in "".join(server.lines)


def test_without_anything_in_the_way_it_ends_at_once_with_0(server: DevServer) -> None:
    assert call(server, "add") == 1
    began = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < SLACK


def test_callbacks_of_user_code_do_not_end_it(server: DevServer) -> None:
    assert call(server, "add") == 1
    assert call(server, "exit_in_callbacks") is None
    assert call(server, "add") == 2
    assert server.stop(signal.SIGTERM) == 0
    assert "a callback of the event loop raised SystemExit" in "".join(server.lines)
