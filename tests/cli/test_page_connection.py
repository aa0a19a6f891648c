"""`examples/connection.js` in Node: refusals, renewed parameters, odd messages and servers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from dev_server import ROOT, DevServer
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

SCRIPT = """
import {Connection, call} from "./connection.mjs";
const [server, way] = process.argv.slice(2);
if (way === "sse") globalThis.WebSocket = class { constructor() { throw new Error("blocked"); } };
const told = ({code, message}) => [code, message];
let renewed = 0;
const door = new Connection(server, "door", ["a"], async () => ({token: `fresh ${renewed++}`}));
const long = door.read("size", "x".repeat(70_000)).catch(told);
const found = {short: await door.read("size", "abc"), long: await long};
found.token = await door.read("token");
door.close();
const single = (token) => call(server, "door", ["a"], "size", ["abcd"], () => ({token}));
found.single = [await single("fresh"), await single("stale").catch(told)];

const bad = new Connection(server, "door", ["a"], {token: "stale"});
const errors = found.errors = [], statuses = found.statuses = [];
bad.onerror = (error) => errors.push(told(error));
bad.onstatus = (text) => statuses.push(text);
found.refused = await bad.read("size", "abc").catch(told);
found.after = await bad.read("size", "abc").catch(told);
console.log(JSON.stringify(found));
process.exit(0);
"""


BROKEN = """
import {Connection} from "./connection.mjs";
const errors = [], seen = [], opened = [];
const page = new Connection(process.argv[2], "door", ["a"]);
page.onerror = (error) => errors.push(error.name);
page.on("told", () => { throw new RangeError("of the page"); });
page.on("told", (value) => seen.push(value));
page.onopen = () => opened.push(seen.length);
const answer = await page.call("answer");
console.log(JSON.stringify({answer, errors, seen, opened}));
process.exit(0);
"""

BOUNDS = "[16 << 20, 64 << 20]"

ALONE = """
import {Connection} from "./connection.mjs";
const errors = [], opened = [];
const page = new Connection(process.argv[2], "door", ["a"]);
page.onerror = (error) => errors.push(error.code ?? error.name);
page.onopen = () => opened.push("open");
const told = (error) => error.code ?? error.name;
const found = await Promise.all([
  page.call("good", "a"), page.call("bad", process.argv[4]).catch(told), page.call("later", "b"),
]);
console.log(JSON.stringify({found, errors, opened}));
process.exit(0);
"""

AWAY = """
import {Connection} from "./connection.mjs";
const page = new Connection(process.argv[2], "door", ["a"]);
const told = (error) => error.code ?? error.name;
const calls = [page.call("echo", "a".repeat(20_000)), page.call("echo", 1n).catch(told)];
for (let i = 0; i < 9; i++) calls.push(page.call("echo", "a".repeat(900)).catch(told));
const early = await Promise.all(calls.slice(1, -1));
await new Promise((go) => { page.onopen = go; });
const found = {early, late: (await calls[0]).length, more: await page.call("echo", 1)};
console.log(JSON.stringify(found));
process.exit(0);
"""

LONG = """
import {Connection} from "./connection.mjs";
globalThis.WebSocket = class { constructor() { throw new Error("blocked"); } };
const errors = [], opened = [], heard = [];
const page = new Connection(process.argv[2], "desk", ["a"]);
page.onerror = (error) => errors.push(error.code ?? error.name);
const told = (error) => error.code ?? error.name;
const long = page.call("repeat", "x", 300_000).catch(told);
const answers = [await page.call("repeat", "x", 3), await long, await page.call("repeat", "y", 3)];
let shouting;
await new Promise((go) => {
  page.on("shouted", (text) => heard.push(text.length));
  page.onopen = () => opened.push("again") && go();
  shouting = page.call("shout", "x".repeat(30_000), 1).catch(told); // sent again, with its key
});
answers.push(await shouting);
answers.push(await page.call("shout", "x", 1));
console.log(JSON.stringify({answers, errors, opened, heard}));
process.exit(0);
"""

HASTY = """
import {Connection} from "./connection.mjs";
new Connection(process.argv[2], "door", ["a"]);
setTimeout(() => { console.log("{}"); process.exit(0); }, 6000);
"""


FOREIGN = """
import dns from "node:dns";
import {Connection} from "./connection.mjs";
const [server, way] = process.argv.slice(2);
const look = dns.lookup;
dns.lookup = (name, ...more) => look(name === "evil.test" ? "127.0.0.1" : name, ...more);
const headers = JSON.parse(process.argv[4]);
let asked = 0;
const ask = fetch, Socket = WebSocket;
globalThis.fetch = (url, options) => {
  asked++;
  return ask(url, {...options, headers: {...options.headers, ...headers}});
};
globalThis.WebSocket = class extends Socket {
  constructor(url, protocols) {
    if (way === "sse") throw new Error("blocked");
    asked++;
    super(url, {protocols, headers});
  }
};
const errors = [], statuses = [];
const page = new Connection(server, "desk", ["a"]);
page.onerror = (error) => errors.push(error.code);
page.onstatus = (text) => statuses.push(text.split(" ")[0]);
const call = await page.call("present").catch((error) => error.code);
const after = await page.call("present").catch((error) => error.code);
await new Promise((go) => setTimeout(go, 1000)); // the first pauses are shorter
console.log(JSON.stringify({asked, errors, statuses, call, after}));
process.exit(0);
"""


def run(
    directory: Path,
    server: str,
    way: str,
    script: str = SCRIPT,
    *more: str,
    limit: int | None = None,
) -> dict[str, Any]:
    """`limit`: of characters that wait and that an event may have, in place of the module's."""
    if shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("node is missing: apt-get install nodejs")
        pytest.skip("node is missing: apt-get install nodejs")
    shutil.copy(ROOT / "examples" / "connection.js", directory / "connection.mjs")
    if limit is not None:
        module = (directory / "connection.mjs").read_text()
        assert BOUNDS in module
        module = module.replace(BOUNDS, f"[{limit}, {limit}]")
        (directory / "connection.mjs").write_text(module)
    (directory / "script.mjs").write_text(script)
    major = subprocess.run(
        ["node", "-p", "process.versions.node.split('.')[0]"],
        capture_output=True,
        text=True,
        check=True,
    )
    flags = ["--experimental-websocket", "--no-warnings"] if int(major.stdout) < 22 else []
    done = subprocess.run(
        ["node", *flags, "script.mjs", server, way, *more],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("way", ["websocket", "sse"])
def test_what_the_module_tells(way: str, tmp_path: Path) -> None:
    with DevServer("page_actors:App", "--store", "memory://", cwd=Path(__file__).parent) as server:
        found = run(tmp_path, server.url, way)
    assert found["short"] == 3
    assert found["long"][0] == "message_too_long"
    assert found["token"].startswith("fresh ")
    refusal = ["unauthorized", "This token has expired."]
    assert (found["refused"], found["after"]) == (refusal, refusal)
    assert found["errors"] == [refusal]
    assert found["single"] == [4, refusal]
    assert found["statuses"] == ["refused This token has expired."]


@pytest.mark.parametrize("way", ["websocket", "sse"])
@pytest.mark.parametrize("name", ["origin", "host"])
async def test_a_page_that_may_not_is_told_once(way: str, name: str, tmp_path: Path) -> None:
    """D3: over an event stream it used to try for ever."""
    headers = json.dumps({"origin": "https://evil.example.com"} if name == "origin" else {})
    with DevServer("page_actors:App", "--store", "memory://", cwd=Path(__file__).parent) as server:
        url = server.url if name == "origin" else f"http://evil.test:{server.port}"
        found = run(tmp_path, url, way, FOREIGN, headers)
    code = f"{name}_not_allowed"
    assert found == {
        "asked": 1,
        "errors": [code],
        "statuses": ["refused"],
        "call": code,
        "after": code,
    }


def init(number: int) -> str:
    return json.dumps(
        {"b": {"i": {"ai": "a", "ci": f"c{number}", "ct": "t", "s": 0, "ml": 65_536}}}
    )


async def test_a_message_that_cannot_be_read_ends_no_page(tmp_path: Path) -> None:
    """Another connection begins, and onopen tells of the gap (C2); a bad listener harms nobody."""
    keys: list[str] = []

    async def answer(socket: ServerConnection) -> None:
        await socket.send(init(len(keys)))
        async for text in socket:
            asked = json.loads(text)["b"].get("ar")
            if asked is None:
                continue
            keys.append(asked["k"])
            if len(keys) == 1:
                await socket.send("[" * 5_000)
                continue
            await socket.send(json.dumps({"b": {"ev": {"n": "told", "a": [7], "s": 1}}}))
            await socket.send(json.dumps({"b": {"ar": {"i": asked["i"], "o": "right"}}}))

    async with serve(answer, "127.0.0.1", 0, select_subprotocol=_rivetkit) as server:
        found = await asyncio.to_thread(run, tmp_path, _url(server), "websocket", BROKEN)
    assert found == {
        "answer": "right",
        "errors": ["SyntaxError", "RangeError"],
        "seen": [7],
        "opened": [0, 0],
    }
    assert len(keys) == 2
    assert len(set(keys)) == 1, "the call is sent again with its key"


async def serving_pages(
    step: Callable[[ServerConnection, dict[str, Any]], Awaitable[None]],
    directory: Path,
    script: str,
    *more: str,
    says_how_long: bool = True,
    limit: int | None = None,
) -> dict[str, Any]:
    """What a script prints of a server that runs `step` for each call."""

    async def answer(socket: ServerConnection) -> None:
        opening = json.loads(init(1))
        if not says_how_long:
            del opening["b"]["i"]["ml"]
        await socket.send(json.dumps(opening))
        async for text in socket:
            await step(socket, json.loads(text)["b"]["ar"])

    async with serve(answer, "127.0.0.1", 0, select_subprotocol=_rivetkit) as server:
        arguments = (directory, _url(server), "websocket", script, *more)
        return await asyncio.to_thread(run, *arguments, limit=limit)


def answer_to(call: dict[str, Any], value: str) -> str:
    return f'{{"b":{{"ar":{{"i":{call["i"]},"o":{value}}}}}}}'


async def test_an_answer_that_cannot_be_read_fails_alone_in_a_page(tmp_path: Path) -> None:
    async def step(socket: ServerConnection, call: dict[str, Any]) -> None:
        await socket.send(answer_to(call, "NaN" if call["n"] == "bad" else '"right"'))

    found = await serving_pages(step, tmp_path, ALONE, "x")
    assert found == {
        "found": ["right", "request_failed", "right"],
        "errors": [],
        "opened": ["open"],
    }


async def test_a_message_that_is_too_long_for_a_server_that_does_not_say(tmp_path: Path) -> None:
    """The page used to send it again and again; the longest call is given up."""
    names: list[str] = []

    async def step(socket: ServerConnection, call: dict[str, Any]) -> None:
        names.append(call["n"])
        if call["n"] == "bad":
            await socket.close(1011, "message_too_long")
        elif "bad" in names:
            await socket.send(answer_to(call, '"right"'))

    found = await serving_pages(step, tmp_path, ALONE, "x" * 5_000, says_how_long=False)
    assert found["found"] == ["right", "message_too_long", "right"]
    assert found["errors"] == []
    assert names.count("bad") == 1


async def test_calls_of_a_page_that_wait_are_bounded(tmp_path: Path) -> None:
    """What cannot be sent at all fails alone; it used to stay, and each connection failed."""

    async def step(socket: ServerConnection, call: dict[str, Any]) -> None:
        await socket.send(answer_to(call, json.dumps(call["a"][0])))

    found = await serving_pages(step, tmp_path, AWAY, limit=10_000)
    assert found == {"early": ["TypeError", *["overloaded"] * 8], "late": 20_000, "more": 1}


def test_what_is_too_long_on_an_event_stream(tmp_path: Path) -> None:
    """An answer fails alone; for an event another connection begins, and onopen tells of it."""
    with DevServer("page_actors:App", "--store", "memory://", cwd=Path(__file__).parent) as server:
        found = run(tmp_path, server.url, "sse", LONG, limit=20_000)
    assert found["answers"] == ["xxx", "message_too_long", "yyy", "message_too_long", "X"]
    assert found["errors"] == []
    assert found["opened"][0] == "again"
    assert found["heard"] == [1]


async def test_a_server_that_opens_and_closes_at_once_is_not_stormed(tmp_path: Path) -> None:
    """The pauses begin anew only after some seconds of life (C5)."""
    opened = 0

    async def close(socket: ServerConnection) -> None:
        nonlocal opened
        opened += 1
        await socket.send(init(opened))
        await socket.close(1011, "restart")

    async with serve(close, "127.0.0.1", 0, select_subprotocol=_rivetkit) as server:
        await asyncio.to_thread(run, tmp_path, _url(server), "websocket", HASTY)
    # Pauses of up to 250 ms would let in about 48.
    assert 2 <= opened <= 20


def _rivetkit(socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol:
    return Subprotocol("rivetkit")


def _url(server: Server) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]
    return f"http://{host}:{port}"
