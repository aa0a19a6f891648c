"""`examples/connection.js` in Node: refusals, renewed parameters, messages that are too long."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dev_server import ROOT, DevServer

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


def run(directory: Path, server: str, way: str) -> dict[str, Any]:
    if shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("node is missing: apt-get install nodejs")
        pytest.skip("node is missing: apt-get install nodejs")
    shutil.copy(ROOT / "examples" / "connection.js", directory / "connection.mjs")
    (directory / "script.mjs").write_text(SCRIPT)
    major = subprocess.run(
        ["node", "-p", "process.versions.node.split('.')[0]"],
        capture_output=True,
        text=True,
        check=True,
    )
    flags = ["--experimental-websocket", "--no-warnings"] if int(major.stdout) < 22 else []
    done = subprocess.run(
        ["node", *flags, "script.mjs", server, way],
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
