"""`rivet-ray dev` as a user meets it: a process, its output, its exit status."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from dev_server import ROOT, DevServer

from rivet_ray import Actor, action, setup
from rivet_ray.cli.dev import _warnings


class Quiet(Actor[None]):
    @action
    def act(self) -> None: ...


class Loud(Quiet):
    public = True


class Guarded(Quiet):
    @classmethod
    def on_auth(cls, request: object, params: object, intents: frozenset[str]) -> None: ...


def dev(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rivet_ray", "dev", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def increment(url: str) -> int:
    request = urllib.request.Request(
        f"{url}/registry/actors/actions/increment",
        data=b'{"a":[1]}',
        headers={
            "X-RivetKit-Encoding": "json",
            "X-RivetKit-Query": json.dumps(
                {"getOrCreateForKey": {"name": "counter", "key": ["dev"]}}
            ),
        },
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return int(json.load(response)["o"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["counter"], "write module:Class"),
        (["no_such_module:App"], "no module 'no_such_module'"),
        (["examples.no_such_module:App"], "no module 'examples.no_such_module'"),
        (["examples.counter:Missing"], "examples.counter has no 'Missing'"),
        (["examples.counter:Counter"], "is no Registry class"),
        (["examples.counter:App", "--cors-origin", "localhost:5173"], "is no origin"),
        (["examples.counter:App", "--cors-origin", "http://a", "--cors-origin", "*"], "alone"),
        (["examples.counter:App", "--store", "mongo://x"], "no driver for the store 'mongo://x'"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], says: str) -> None:
    """Exit status 1, one line on stderr that names the mistake, no traceback."""
    result = dev(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert says in result.stderr


def test_a_module_that_fails_names_its_place(tmp_path: Path) -> None:
    """An error inside the user's module is told with file and line."""
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")
    result = dev("broken:App", cwd=tmp_path)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert "broken.py:2" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_taken_port_is_one_clear_line() -> None:
    """Nothing is started when the port is in use."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = dev("examples.counter:App", "--port", str(port))
    assert result.returncode == 1
    assert f"127.0.0.1:{port} cannot be used" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_it_serves_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    """The first request is answered soon after the start; SIGINT and SIGTERM end it cleanly."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with DevServer("examples.counter:App", "examples.chat:App") as server:
            assert increment(server.url) == 1
            took = time.perf_counter() - server.started
            with capsys.disabled():
                print(f"\nrivet-ray dev answered its first request after {took:.2f} s")
            server.stop(number)
            assert "Traceback" not in "".join(server.lines)


def test_an_open_actor_type_is_warned_of(tmp_path: Path) -> None:
    """A type without on_auth that is not public is served in dev, with a warning."""
    (tmp_path / "quiet.py").write_text(
        "from rivet_ray import Actor, Registry, action, use\n"
        "class Quiet(Actor):\n"
        "    @action\n"
        "    def increment(self, amount: int) -> int:\n"
        "        return amount\n"
        "class App(Registry):\n"
        "    counter = use(Quiet)\n"
    )
    with DevServer("quiet:App", cwd=tmp_path) as server:
        assert increment(server.url) == 1
    warned = [line for line in server.lines if line.startswith("WARNING: counter has no on_auth")]
    assert len(warned) == 1, "".join(server.lines)
    assert not any("others can use" in line for line in server.lines)


def test_an_open_actor_type_is_warned_of_twice_where_others_reach_it() -> None:
    """What is printed for an address that is not the loopback; none is opened for it here."""
    registry = setup(use={"quiet": Quiet, "loud": Loud, "guarded": Guarded})
    for host, count in (("127.0.0.1", 1), ("::1", 1), ("localhost", 1), ("0.0.0.0", 2), ("::", 2)):
        found = _warnings(registry, host)
        assert len(found) == count, host
        assert found[0].startswith("quiet has no on_auth")
    assert _warnings(setup(use={"loud": Loud, "guarded": Guarded}), "0.0.0.0") == []


@pytest.mark.parametrize("reload", [False, True])
def test_cors_origins(reload: bool) -> None:
    """A page of a named origin may call, and of this machine; with --reload too, and no other."""
    arguments = ["examples.counter:App", "--cors-origin", "http://pages.example:5173"]
    arguments += ["--allow-host", "app.internal", *(["--reload"] if reload else [])]
    with DevServer(*arguments) as server:
        assert increment(server.url) == 1
        for origin, allowed in (
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://pages.example:5173", "http://pages.example:5173"),
            ("http://evil.example", None),
        ):
            request = urllib.request.Request(server.url, method="OPTIONS")
            request.add_header("Origin", origin)
            with urllib.request.urlopen(request, timeout=10) as response:
                assert response.status == 204
                assert response.headers["Access-Control-Allow-Origin"] == allowed
        for name in ("localhost", "app.internal"):
            request = urllib.request.Request(server.url, headers={"Host": name})
            with urllib.request.urlopen(request, timeout=10) as response:
                assert response.status == 200
        request = urllib.request.Request(server.url, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 403
        assert b"--allow-host" in refused.value.read()


def test_reload(tmp_path: Path) -> None:
    """--reload serves the new code after a file changed."""
    source = (
        "from rivet_ray import Actor, Registry, action, use\n"
        "class Changing(Actor):\n"
        "    public = True\n"
        "    @action\n"
        "    def increment(self, amount: int) -> int:\n"
        "        return NUMBER\n"
        "class App(Registry):\n"
        "    counter = use(Changing)\n"
    )
    module = tmp_path / "changing.py"
    module.write_text(source.replace("NUMBER", "1"))
    with DevServer("changing:App", "--reload", cwd=tmp_path) as server:
        deadline = time.monotonic() + 20
        answers: list[int] = []
        while time.monotonic() < deadline and 2 not in answers:
            try:
                answers.append(increment(server.url))
            except OSError:
                answers.append(0)
            if answers[-1] == 1:
                module.write_text(source.replace("NUMBER", "2"))
            time.sleep(0.2)
    assert answers[-1] == 2
    assert 1 in answers
