"""A real browser without a window, by the Chrome DevTools Protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium-headless-shell", "chromium")
PATIENCE = 30.0
LISTENS = re.compile(rb"DevTools listening on (ws:\S+)\n")


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[str]:
    """A running browser; the address at which it is driven."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.fail("chromium is missing: apt-get install chromium-headless-shell")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        tempfile.TemporaryFile() as said,
    ):
        process = await asyncio.create_subprocess_exec(
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={profile}", "--remote-debugging-port=0", *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                while not (found := LISTENS.search(text := os.pread(said.fileno(), 4096, 0))):
                    assert process.returncode is None, text
                    await asyncio.sleep(0.02)
            yield found[1].decode()
        finally:
            # What was started may be a script, which would leave the browser behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


class Browser:
    """Opens pages, each in a profile of its own."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    async def open(self, url: str, before: str = "") -> Page:
        """A page; `before` is JavaScript that runs ahead of its own."""
        context = await self.command("Target.createBrowserContext")
        target = await self.command("Target.createTarget", url="about:blank", **context)
        attached = await self.command("Target.attachToTarget", **target, flatten=True)
        page = Page(self, attached["sessionId"])
        self._pages[page.session] = page
        await page.command("Page.enable")
        await page.command("Runtime.enable")
        await page.command("Emulation.setFocusEmulationEnabled", enabled=True)
        await page.command("Page.addScriptToEvaluateOnNewDocument", source=before)
        await page.command("Page.navigate", url=url)
        return page

    async def command(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def listen(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                answer = self._waiting.pop(message["id"])
                if "error" in message:
                    answer.set_exception(AssertionError(message["error"]))
                else:
                    answer.set_result(message["result"])
            elif message["method"] == "Runtime.exceptionThrown":
                page = self._pages[message["sessionId"]]
                page.exceptions.append(message["params"]["exceptionDetails"])


class Page:
    """A page, as its user sees and uses it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self.session = session
        self.exceptions: list[Any] = []
        """Those that its scripts did not catch."""

    async def command(self, method: str, **parameters: Any) -> Any:
        return await self._browser.command(method, self.session, **parameters)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = await self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def shows(self, expression: str, expected: Any, seconds: float = PATIENCE) -> None:
        """Wait until an expression has a value."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (found := await self.evaluate(expression)) != expected:
            late = asyncio.get_running_loop().time() > deadline
            assert not late, f"{expression} is {found!r}, not {expected!r}"
            await asyncio.sleep(0.02)

    async def enter(self, text: str) -> None:
        """Type into what has the focus, and press Enter."""
        await self.command("Input.insertText", text=text)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await self.command("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **key)

    async def photograph(self) -> bytes:
        """A PNG."""
        picture = await self.command("Page.captureScreenshot")
        return base64.b64decode(picture["data"])


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    async with chromium() as address, connect(address, max_size=None, proxy=None) as socket:
        browser = Browser(socket)
        listening = asyncio.ensure_future(browser.listen())
        try:
            yield browser
        finally:
            listening.cancel()
            await asyncio.wait([listening])
