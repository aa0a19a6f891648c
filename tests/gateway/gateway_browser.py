"""Pages that report what they saw in a real browser."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from chromium import PATIENCE, chromium

PAGE = """<!doctype html><script type="module">
const settings = %s;
async function run() { %s }
let found;
try { found = {found: await run()}; } catch (error) { found = {error: String(error)}; }
await fetch("/report", {method: "POST", body: JSON.stringify(found)});
</script>"""


class Pages:
    """A server of pages: `127.0.0.1` and `localhost` are two origins of it."""

    def __init__(self) -> None:
        self.page = b""
        self.reports: queue.Queue[Any] = queue.Queue()
        pages = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(pages.page if self.path == "/" else b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(b"")
                pages.reports.put(json.loads(body))

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def origin(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self._server.server_port}"

    async def see(self, script: str, settings: Any, host: str = "127.0.0.1") -> Any:
        """What the body of an async function returns in a page of that origin."""
        self.page = (PAGE % (json.dumps(settings), script)).encode()
        async with chromium(self.origin(host) + "/"):
            report = await asyncio.to_thread(self.reports.get, timeout=PATIENCE)
        assert "error" not in report, report
        return report["found"]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
