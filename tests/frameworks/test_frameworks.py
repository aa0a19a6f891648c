"""The examples of other frameworks, started as their users start them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from threaded_server import threaded_server

from examples.counter import App, Counter

ROOT = Path(__file__).parents[2]

ASGI = {
    "FastAPI": "examples.frameworks.with_fastapi:app",
    "Starlette": "examples.frameworks.with_starlette:app",
    "Litestar": "examples.frameworks.with_litestar:app",
    "Django": "examples.frameworks.with_django:application",
}


@contextmanager
def running(cwd: Path, *command: str, **variables: str) -> Iterator[str]:
    """A server in a process of its own, with its state under `cwd`; yields its URL."""
    paths = [str(ROOT), str(ROOT / "drivers"), os.environ.get("PYTHONPATH", "")]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST")
    }
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **variables}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line, re.IGNORECASE):
                yield found[1]
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(lines))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            rest, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        lines.append(rest or "")
    output = "".join(lines)
    assert "Traceback" not in output, output


@pytest.mark.parametrize("name", ASGI)
def test_actors_inside_an_application(name: str, tmp_path: Path) -> None:
    """Routes, middleware and lifespan of the application, and the actors beside them."""
    command = ("uvicorn", ASGI[name], "--port", "0")
    with running(tmp_path, *command) as url:
        # Entered with the application's lifespan, before any request.
        assert httpx.get(f"{url}/registry/health").json() == {"status": "ok"}
        with App.sync_client(url) as client:
            counter = client.get_or_create(Counter, "a")
            assert counter.call(Counter.increment, 5) == 5
            with counter.connect() as conn:
                counts = conn.events(Counter.new_count, timeout=10)
                answer = httpx.post(f"{url}/increment/a")
                assert answer.json() == {"count": 6}
                assert answer.headers["x-application"] == name
                assert next(counts) == 6
                assert conn.call(Counter.increment, 1) == 7
            assert httpx.get(f"{url}/count/a").json() == {"count": 7}
        assert "/actors/actions/increment" in httpx.get(f"{url}/registry/openapi.json").text
        assert httpx.get(f"{url}/registry/nope").status_code == 404
        for path in ("nope", "registry-of-ours"):
            answer = httpx.get(f"{url}/{path}")
            assert answer.status_code == 404
            # Litestar's mount has all paths that begin like it and are no route of their own.
            assert "Rivet" not in answer.text or (name, path) == ("Litestar", "registry-of-ours")
    with running(tmp_path, *command) as url:
        assert httpx.get(f"{url}/count/a").json() == {"count": 7}


def test_a_flask_application_calls_actors(tmp_path: Path) -> None:
    with threaded_server(App.create_server(store="memory://").handler) as endpoint:
        command = ("flask", "--app", "examples.frameworks.with_flask", "run", "--port", "0")
        with running(tmp_path, *command, RIVET_ENDPOINT=endpoint) as url:
            answer = httpx.post(f"{url}/increment/a")
            assert answer.json() == {"count": 1}
            assert answer.headers["x-application"] == "Flask"
            assert httpx.get(f"{url}/next/a").json() == {"count": 2}
            assert httpx.get(f"{url}/count/a").json() == {"count": 2}


async def test_a_server_is_entered_and_left_more_than_once(tmp_path: Path) -> None:
    server = App.create_server(store=f"file://{tmp_path}")
    for expected in (1, 2, 3):
        async with server:
            assert await server.client.counter.get_or_create("a").increment() == expected
