"""`examples/connection.js` in Node: refusals, renewed parameters, odd messages and servers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dev_server import ROOT, DevServer
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

SCRIPT = """
import {Connection} from "./connection.mjs";
const [server, way] = process.argv.slice(2);
if (way === "sse") globalThis.WebSocket = class { constructor() { throw new Error("blocked"); } };
const told = ({code, message}) => [code, message];
let renewed = 0;
const door = new Connection(server, "door", ["a"], async () => ({token: `fresh ${renewed++}`}));
const long = door.read("size", "x".repeat(70_000)).catch(told);
const found = {short: await door.read("size", "abc"), long: await long};
found.token = await door.read("token");
door.close();

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


def run(directory: Path, server: str, way: str, script: str = SCRIPT, *more: str) -> dict[str, Any]:
    if shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("node is missing: apt-get install nodejs")
        pytest.skip("node is missing: apt-get install nodejs")
    shutil.copy(ROOT / "examples" / "connection.js", directory / "connection.mjs")
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
