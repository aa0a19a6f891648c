"""Wrong code that mypy and pyright must both refuse: `python tests/typing/check_negative.py`.

A line of a snippet that ends in `# !` is a mistake: each checker has to report it,
and no other line, but for those with `# ?`, which it may. Exits with 1, and says
what was missed, where that is not so. The lines without mark are right, so that a
checker which refuses everything does not pass.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
MISTAKE = "# !"
EITHER = "# ?"
PREFIX = "planted_"

PROLOGUE = """\
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rivet_ray import Actor, Client, Conn, Event, Registry, Request, SyncClient, action, use

@dataclass
class CounterState:
    count: int = 0

@dataclass
class Member:
    name: str = ""

@dataclass
class JoinParams:
    room: str

class Counter(Actor[CounterState, Member, JoinParams]):
    new_count = Event[int]()
    moved = Event[str, int]()

    @action
    def increment(self, amount: int) -> int:
        return amount

    @action
    async def slowly(self, amount: int, note: str = "") -> str:
        return note

class App(Registry):
    counter = use(Counter)

"""

SNIPPETS = {
    "arguments": """
        async def f(c: Counter) -> None:
            await c.increment("5")  # !
            await c.slowly("5")  # !
            await c.increment()  # !
            await c.increment(1, 2)  # !
            await c.increment(total=1)  # !
            await c.slowly(1, note=2)  # !
            c.increment.local("5")  # !
            await c.increment(1)
            await c.slowly(1, note="x")
        """,
    "unknown": """
        async def f(client: App) -> None:
            await client.counter.get("k").decrement(1)  # !
            client.room.get("k")  # !
            client.counter.find("k")  # !
            client.counter.get("k")
        """,
    "results": """
        async def f(c: Counter) -> None:
            text: str = await c.increment(1)  # !
            number: int = await c.slowly(1)  # !
            await c.increment(1) + "x"  # !
            (await c.slowly(1)).nope()  # !
            await c.increment.local(1)  # !
            print(text, number)
        """,
    "awaits": """
        def take(value: int) -> None: ...

        async def f(c: Counter) -> None:
            take(c.increment(1))  # !
            print(c.increment(1) + 1)  # !
            take(c.slowly.local(1))  # !
            take(await c.increment(1))
            take(c.increment.local(1))
        """,
    "keys": """
        async def f(client: App) -> None:
            client.counter.get(5)  # !
            client.counter.get_or_create([1, 2])  # !
            await client.counter.create(None)  # !
            client.counter.get_with_id(5)  # !
            client.counter.get_or_create("k", region=5)  # !
            client.counter.get(("a", "b"))
        """,
    "handles": """
        async def f(client: App) -> None:
            client.counter.create("k").increment(1)  # !
            number: int = await client.counter.get("k").resolve()  # !
            App.client(timeout="5")  # !
            App.client(8080)  # !
            print(number)
        """,
    "broadcast": """
        class Game(Actor):
            scored = Event[int]()
            moved = Event[str, int]()
            over = Event[()]()

            @action
            def play(self) -> None:
                self.broadcast(Game.scored, "5")  # !
                self.broadcast(Game.scored)  # !
                self.broadcast(Game.scored, 1, 2)  # !
                self.broadcast(Game.moved, 1, "x")  # !
                self.broadcast(Game.over, 1)  # !
                self.broadcast(5)  # !
                self.conn.send(Game.scored, "5")  # !
                self.broadcast(Game.missing, 5)  # !
                self.broadcast(Game.scored, 5)
                self.conn.send(Game.moved, "x", 1)
        """,
    "listeners": """
        def text(value: str) -> None: ...
        def number(value: int) -> None: ...
        def both(name: str, value: int) -> None: ...

        async def f(client: App) -> None:
            async with client.counter.get("k").connect() as conn:
                conn.on(Counter.new_count, text)  # !
                conn.on(Counter.new_count, both)  # !
                conn.on(Counter.moved, number)  # !
                conn.once(Counter.moved, text)  # !
                conn.on(Counter.increment, number)  # !
                await conn.actor.increment("5")  # !
                async for count in conn.events(Counter.new_count):
                    text(count)  # !
                async for name, value in conn.events(Counter.moved):
                    both(value, name)  # !
                conn.on(Counter.new_count, number)
                conn.on(Counter.moved, both)
        """,
    "parameters": """
        def of(name: str) -> str:
            return name

        async def later(name: str) -> str:
            return name

        async def f(client: App, blocking: SyncClient, thing: object) -> None:
            client.counter.get("k", params=of)  # !
            client.counter.get_or_create("k", params=later)  # !
            client.counter.get("k", params=JoinParams)  # !
            client.counter.get("k", params=thing)  # !
            client.counter.get("k").connect(params=of)  # !
            Client().get("counter", params=of)  # !
            blocking.get(Counter, "k", params=of)  # !
            blocking.get_or_create(Counter, "k").connect(params=later)  # !
            client.counter.get("k", params=JoinParams("r"))
            client.counter.get("k", params=lambda: of("a"))
        """,
    "state": """
        class Wrong(Actor[CounterState, Member, JoinParams, int, str]):
            @action
            def f(self) -> int:
                self.state.total = 1  # !
                self.state.count = "x"  # !
                self.state = 5  # !
                self.conn.state.nick = "x"  # !
                self.conn.state = CounterState()  # !
                self.conn.params.name  # !
                self.conn.params = JoinParams("x")  # !
                self.auth + 1  # !
                self.input.upper()  # !
                self.key = ("a",)  # !
                for conn in self.conns:
                    conn.state.count  # !
                return self.conn.state.name  # !
        """,
    "no_state": """
        class Stateless(Actor):
            @action
            def f(self) -> None:
                self.state.count += 1  # !
        """,
    "actions": """
        class Wrong(Actor):
            @action
            def text(self) -> int:
                return "x"  # !

            @action(timeout="5")  # !
            def a(self) -> None: ...

            @action(nam="x")  # !
            def b(self) -> None: ...

            @action(name=5)  # !
            async def c(self) -> None: ...
        """,
    "no_self": """
        class Selfless(Actor):
            @action  # !
            def f() -> None: ...  # ?
        """,
    "wrong_self": """
        class Elsewhere:
            @action  # !
            def f(self) -> None: ...
        """,
    "create_state": """
        class Wrong(Actor[CounterState, Member, JoinParams, int]):
            def create_state(self, input: int) -> Member:  # !
                return Member()

            def create_conn_state(self, request: Request | None, params: JoinParams) -> str:  # !
                return ""
        """,
    "hooks": """
        class Wrong(Actor[CounterState, Member, JoinParams, int, str]):
            @classmethod
            def on_auth(  # !
                cls, request: Request, params: JoinParams, intents: frozenset[str]
            ) -> int:
                return 1

            def on_start(self, now: float) -> None: ...  # !

            def on_create(self, input: str) -> None: ...  # !

            def on_connect(self, conn: Conn[CounterState, JoinParams, str]) -> None: ...  # !

            def on_before_connect(self, request: Request | None, params: int) -> None: ...  # !

            async def on_fetch(self, request: str) -> str:  # !
                return request

            async def on_websocket(self, websocket: int) -> None: ...  # !
        """,
    "raw": """
        class Wrong(Actor[CounterState]):
            async def on_fetch(self, request: Any) -> int:  # !
                return 1

        async def f(client: App) -> None:
            await client.counter.get("k").fetch("x", body=1)  # !
        """,
    "untyped_client": """
        async def f(client: Client) -> None:
            handle = client.actor("counter", "k")
            await handle.call(Counter.increment, "5")  # !
            await handle.call(Counter.increment)  # !
            text: str = await handle.call(Counter.increment, 5)  # !
            await handle.call(5)  # !
            await handle.increment(5)  # !
            client.actor("counter", 5)  # !
            number: int = await handle.call(Counter.increment, 5)
            print(text, number)
        """,
    "blocking": """
        def text(value: str) -> None: ...

        class Other(Actor):
            @action
            def look(self) -> int:
                return 1

        def f(client: SyncClient) -> None:
            counter = client.get_or_create(Counter, "k")
            counter.call(Counter.increment, "5")  # !
            counter.call(Counter.increment)  # !
            counter.call(Counter.increment, total=1)  # !
            counter.call(Other.look)  # !
            wrong: str = counter.call(Counter.increment, 5)  # !
            counter.call(5)  # !
            counter.increment(5)  # !
            client.get(Counter, 5)  # !
            counter.fetch("x", body=5)  # !
            counter.websocket("x").send(5)  # !
            client.get(int, "k")  # !
            client.get_with_id(Counter, 5)  # !
            with counter.connect() as conn:
                conn.call(Counter.slowly, "5")  # !
                conn.call(Other.look)  # !
                conn.on(Counter.new_count, text)  # !
                for count in conn.events(Counter.new_count, timeout=1):
                    text(count)  # !
                conn.events(Counter.new_count, timeout="1")  # !
            number: int = counter.call(Counter.increment, 5)
            slowly: str = counter.call(Counter.slowly, 5, note="x")
            print(number, slowly, wrong)
        """,
    "registry": """
        class Wrong(Registry):
            number = use(int)  # !
            instance = use(Counter())  # !
            named = use(Counter, name=5)  # !
        """,
}


def write(folder: Path) -> dict[tuple[str, int], str]:
    """Write the snippets as files; the marks of each, by file and line."""
    marks: dict[tuple[str, int], str] = {}
    for name, snippet in SNIPPETS.items():
        text = PROLOGUE + dedent(snippet)
        (folder / f"{PREFIX}{name}.py").write_text(text)
        for number, line in enumerate(text.split("\n"), 1):
            if line.endswith((MISTAKE, EITHER)):
                marks[PREFIX + name, number] = line[-len(MISTAKE) :]
    return marks


def run(*command: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def mypy_found(process: subprocess.Popen[str]) -> dict[tuple[str, int], str]:
    output, errors = process.communicate()
    if process.returncode not in (0, 1):
        sys.exit(f"mypy failed:\n{output}{errors}")
    found: dict[tuple[str, int], str] = {}
    for line in output.split("\n"):
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        # By file name: mypy may tell a path of an earlier run, from its cache. Faults
        # of the package itself are the business of `make check`.
        if match is not None and Path(match[1]).stem.startswith(PREFIX):
            found.setdefault((Path(match[1]).stem, int(match[2])), match[3])
    return found


def pyright_found(process: subprocess.Popen[str]) -> dict[tuple[str, int], str]:
    output, errors = process.communicate()
    if process.returncode not in (0, 1):
        sys.exit(f"pyright failed:\n{output}{errors}")
    found: dict[tuple[str, int], str] = {}
    for item in json.loads(output)["generalDiagnostics"]:
        place = (Path(item["file"]).stem, item["range"]["start"]["line"] + 1)
        if item["severity"] == "error" and place[0].startswith(PREFIX):
            found.setdefault(place, item["message"])
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        marks = write(folder)
        files = [str(path) for path in sorted(folder.glob("*.py"))]
        settings = {
            "include": ["."],
            "typeCheckingMode": "standard",
            "extraPaths": [str(ROOT)],
        }
        (folder / "pyrightconfig.json").write_text(json.dumps(settings))
        mypy = run(
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml"),
            *("--no-error-summary", "--hide-error-context", *files),
        )
        pyright = run(
            *(sys.executable, "-m", "pyright", "--outputjson", "--project", str(folder)),
            *("--pythonpath", sys.executable),
        )
        results = {
            "mypy": mypy_found(mypy),
            "pyright": pyright_found(pyright),
        }
        faults = compare(folder, marks, results)
    mistakes = sum(mark == MISTAKE for mark in marks.values())
    if faults:
        sys.exit("\n".join(faults))
    print(f"mypy and pyright both refuse all {mistakes} planted mistakes, and nothing else.")


def compare(
    folder: Path,
    marks: dict[tuple[str, int], str],
    results: dict[str, dict[tuple[str, int], str]],
) -> list[str]:
    """What a checker missed, and what it refused that is right."""
    faults: list[str] = []
    for checker, found in results.items():
        for name, number in sorted(marks.keys() | found.keys()):
            mark = marks.get((name, number))
            problem = found.get((name, number))
            source = (folder / f"{name}.py").read_text().split("\n")[number - 1].strip()
            if mark == MISTAKE and problem is None:
                faults.append(f"{checker} misses a mistake in {name}: {source}")
            elif mark is None and problem is not None:
                faults.append(f"{checker} refuses what is right in {name}: {source}\n  {problem}")
    return faults


if __name__ == "__main__":
    main()
