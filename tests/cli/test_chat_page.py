"""The chat page in a real browser, served and allowed as the README says."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import PATIENCE, Browser, Page, browsing
from dev_server import ROOT, DevServer
from page_actors import App as PageApp
from road import Road, road_to

from examples.chat import App, ChatRoom, Message

TEXTS = "[...document.querySelectorAll('li')].map((item) => item.lastChild.textContent)"
SENDERS = "[...document.querySelectorAll('li b')].map((name) => name.textContent)"
STATUS = "document.querySelector('#status').textContent"
MARK = "document.querySelector('li').id = 'first'"

BLOCKED = "window.WebSocket = class { constructor() { throw new Error('blocked'); } };"

COUNTED = """
window.posting = 0;
const ask = window.fetch;
window.fetch = (url, options) => {
  const answer = ask(url, options);
  if (options.method !== "POST") return answer;
  window.posting += 1;
  return answer.finally(() => { window.posting -= 1; });
};
"""


@contextmanager
def page_server() -> Iterator[tuple[str, list[str]]]:
    """Starts the README's two commands: the page's URL, and the first command's arguments."""
    readme = (ROOT / "README.md").read_text()
    (commands,) = re.findall(r"```sh\n(\S+rivet-ray dev examples\.chat:App.*?)```", readme, re.S)
    dev, pages = (shlex.split(line, comments=True) for line in commands.splitlines())
    assert (dev[1], dev[-1], pages[:3]) == ("dev", "&", ["python3", "-m", "http.server"])
    port = pages[3]
    assert f"http://localhost:{port}/chat.html" in readme
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", *pages[4:]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            found = re.search(r"port (\d+)", process.stdout.readline())
            assert found is not None
            arguments = [argument.replace(port, found[1]) for argument in dev[2:-1]]
            yield f"http://localhost:{found[1]}/chat.html", arguments
        finally:
            process.terminate()


async def opened(browser: Browser, url: str, road: Road, name: str, before: str = "") -> Page:
    return await browser.open(f"{url}?server={road.url}&room=r%C3%BCm%20(1)&name={name}", before)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("blocked", ["nowhere", "on the way", "in the page"])
async def test_two_pages_talk(blocked: str, tmp_path: Path) -> None:
    """They hear one another at once, a cut costs them nothing, nor does `kill -9` of the server.

    C5: what they missed comes in order and once. C4: what they say meanwhile, or without getting
    an answer, is said once.
    """
    way = "connected by WebSocket" if blocked == "nowhere" else "connected by event stream"
    before = COUNTED + (BLOCKED if blocked == "in the page" else "")
    with page_server() as (url, arguments), ExitStack() as servers:
        arguments += ["--store", f"file://{tmp_path}"]
        first = servers.enter_context(DevServer(*arguments))
        async with road_to(first.port) as road, browsing() as browser:
            road.blocks_upgrades = blocked == "on the way"
            ann = await opened(browser, url, road, "Ann", before)
            bob = await opened(browser, url, road, "Bob%20%F0%9F%98%80", before)
            pages = (ann, bob)

            async def both_show(texts: list[str]) -> None:
                for page in pages:
                    await page.shows(TEXTS, texts)
                    await page.shows(f"{STATUS}.startsWith('connected by ')", True)

            await both_show([])
            for page in pages:
                # After a cut it is whichever gets through first.
                await page.shows(STATUS, way)
            await ann.enter("hello")
            await both_show(["hello"])
            await bob.enter("hello <b>Ann</b>")
            texts = ["hello", "hello <b>Ann</b>"]
            await both_show(texts)
            await bob.shows(SENDERS, ["Ann", "Bob 😀"])
            await bob.shows("document.querySelectorAll('.mine').length", 1)

            for page in pages:
                await page.evaluate(MARK)
            road.open = False
            road.cut()
            await ann.enter("are you there?")
            async with (
                App.client(first.url) as client,
                client.chat_room.get("rüm (1)").connect(params={"name": "Carol"}) as carol,
            ):
                heard = carol.events(ChatRoom.new_message)
                await carol.actor.send("only me")
                road.open = True
                texts += ["only me", "are you there?"]
                await both_show(texts)

                # A message waits for the answer to the one before it, which must not get lost.
                await ann.shows("window.posting", 0)
                road.loses_answers = True
                await ann.enter("once")
                texts.append("once")
                async with asyncio.timeout(PATIENCE):
                    async for message in heard:
                        if message == Message("Ann", "once"):
                            break
                road.cut()
                road.loses_answers = False
            await ann.enter("done")
            texts.append("done")
            await both_show(texts)
            for page in pages:
                # The page was not filled anew: its connection went on.
                await page.shows("document.querySelector('li').id", "first")

            road.open = False
            road.cut()
            first.stop(signal.SIGKILL)
            await bob.enter("still here")
            second = servers.enter_context(DevServer(*arguments))
            road.port, road.open = second.port, True
            texts.append("still here")
            await both_show(texts)
            await ann.enter("me too")
            texts.append("me too")
            await both_show(texts)
            late = await opened(browser, url, road, "Dan", before)
            await late.shows(TEXTS, texts)
            assert [page.exceptions for page in (*pages, late)] == [[], [], []]
            (tmp_path / "bob.png").write_bytes(await bob.photograph())


TALK = """
const {Connection} = await import("./connection.js");
const server = new URLSearchParams(location.search).get("server");
const heard = [], statuses = [];
const desk = new Connection(server, "desk", ["é (1)"]);
desk.onstatus = (text) => statuses.push(text);
desk.on("shouted", (text, number) => heard.push(`${text} ${number}`));
await new Promise((opened) => { desk.onopen = opened; });
const before = desk.call("shout", "früh", 1);
// Whoever waits for the answer goes on before what comes after it.
const seen = before.then((answer) => [answer, heard.length]);
desk.call("shout", "late", 300);
const told = ({code, message, metadata}) => [code, message, metadata];
const refused = await desk.call("refuse").catch(told);
await seen;
"""

CLOSES = """
const waits = desk.call("present");
desk.close();
const ended = await waits.catch((error) => error.message);
const after = await desk.call("present").catch((error) => error.message);
return {seen: await seen, heard: heard.length, last: heard.at(-1), refused, statuses, ended, after};
"""

IS_DISMISSED = """
await desk.call("dismiss").catch(() => {});
for (let i = 0; i < 100 && statuses.length < 2; i++) await new Promise((go) => setTimeout(go, 50));
return {statuses, after: await desk.call("present").catch((error) => error.message)};
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_stream_on_which_nothing_comes_is_given_up(when: str, tmp_path: Path) -> None:
    """C5: a server that vanished without a word costs a while, and no message.

    At once: what the page asks for when it opens is not answered either, and is asked again.
    """
    with page_server() as (url, arguments), ExitStack() as servers:
        server = servers.enter_context(DevServer(*arguments, "--store", f"file://{tmp_path}"))
        async with road_to(server.port) as road, browsing() as browser:
            page = await opened(browser, url, road, "Ann", COUNTED + BLOCKED)
            await page.shows("document.readyState", "complete")
            await page.shows(STATUS, "connected by event stream")
            if when == "later":
                await page.shows("window.posting", 0)
            road.loses_answers = True
            async with App.client(server.url) as client:
                room = client.chat_room.get_or_create("rüm (1)")
                await room.send("into the dark")
                # 15 s until the server says that it is there, and 10 s that it may be late.
                await page.shows(f"{STATUS}.startsWith('connecting again')", True)
                road.loses_answers = False
                await room.send("and back")
            await page.shows(TEXTS, ["into the dark", "and back"])
            await page.shows("window.posting", 0)
            await page.shows(TEXTS, ["into the dark", "and back"])
            assert page.exceptions == []


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("blocked", [False, True])
async def test_what_the_module_of_the_page_promises(blocked: bool) -> None:
    way = "connected by " + ("event stream" if blocked else "WebSocket")
    with page_server() as (url, arguments), ExitStack() as servers:
        [origin] = [arguments[n + 1] for n, said in enumerate(arguments) if said == "--cors-origin"]
        here = ("page_actors:App", "--cors-origin", origin)
        server = servers.enter_context(DevServer(*here, cwd=Path(__file__).parent))
        async with browsing() as browser:
            page = await browser.open(f"{url}?server={server.url}&name=", BLOCKED * blocked)
            await page.shows("document.readyState", "complete")

            async def run(script: str) -> dict[str, Any]:
                answer: dict[str, Any] = await page.evaluate(
                    f"(async () => {{ {TALK}{script} }})()"
                )
                return answer

            said = await run(CLOSES)
            assert said["seen"] == ["FRÜH", 1]
            assert (said["heard"], said["last"]) == (301, "late 299")
            assert said["refused"] == ["closed", "Not today.", {"until": "noon"}]
            assert said["statuses"] == [way, "closed"]
            assert "closed" in said["ended"], "what waits is told"
            assert said["after"] == "The connection is closed."
            async with PageApp.client(server.url) as client:
                desk = client.desk.get("é (1)")
                # Not after the 30 s of one that was cut. One is this call's own.
                for _ in range(100):
                    if (present := await desk.present()) == 1:
                        break
                    await asyncio.sleep(0.05)
                assert present == 1
            said = await run(IS_DISMISSED)
            assert said["statuses"] == [way, "closed go home"]
            assert said["after"] == "The connection is closed."
            await page.shows("window.WebSocket.name", "WebSocket" if not blocked else "")
