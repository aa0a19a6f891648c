"""Ten thousand malformed messages, requests and openings: a typed answer to each.

The server is a process of its own, as users start it, so that its log and its memory
are its own. What each thing may be answered with says `gateway_oracle`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import malformed_actors
import pytest
from gateway_malformed import Frame, bodies, frames, messages
from gateway_openers import send_address, send_headers, send_stream, send_subprotocols
from gateway_openings import (
    BROKEN,
    KEYS,
    A,
    first_frames,
    openings,
    requests,
    subprotocols,
)
from gateway_senders import (
    send_body,
    send_broken,
    send_frames,
    send_message_headers,
    send_posted,
    send_request,
)
from gateway_serve import Stack
from gateway_servers import serving
from gateway_tally import Tally, on, volume
from gateway_wire import CBOR, JSON, PATIENCE, Site, eventually, get_or_create
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from served_command import ServedCommand

# What fails is shown as a whole, also where it is long.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

MEBIBYTE = 2**20
FLAT = 8 * MEBIBYTE
"""By how much a server's memory may grow after the first 2,600 of 13,000 malformed things.

If 1 KiB stayed of each, it would be 10. The allocator alone moves a warm server by up
to 3 from one round to the next.
"""
ACTIONS = st.sampled_from(["echo", "typed"])
OLDER = st.booleans()
PATHS = st.sampled_from(["resolve", "actions/echo", "raw/http/x"])
MESSAGE_HEADERS = st.tuples(
    st.sampled_from(["actor", "conn", "conn_token", "encoding"]),
    st.none() | st.text("0123456789abcdef-=", min_size=1, max_size=40),
)


@dataclass(frozen=True)
class Kind:
    """One way to send something malformed; `share` of all examples go this way."""

    share: float
    strategy: st.SearchStrategy[Any]
    send: Callable[..., Coroutine[Any, Any, None]]


def kinds(encoding: str) -> list[Kind]:
    several = st.lists(frames(encoding), min_size=3, max_size=7)
    posted = st.lists(messages(encoding), min_size=3, max_size=7)
    headers = st.lists(MESSAGE_HEADERS, min_size=1, max_size=4)
    return [
        Kind(1, st.tuples(several), send_frames),
        Kind(0.25, st.tuples(posted), send_posted),
        Kind(0.1, st.tuples(headers), send_message_headers),
        Kind(1, st.tuples(messages(encoding) | bodies(encoding), ACTIONS, OLDER), send_body),
        Kind(1, st.tuples(openings(encoding), PATHS, OLDER), send_headers),
        Kind(0.4, st.tuples(openings(encoding), OLDER), send_stream),
        Kind(0.8, st.tuples(subprotocols(encoding), st.booleans()), send_subprotocols),
        Kind(0.4, st.tuples(openings(encoding), first_frames(encoding)), send_address),
        Kind(0.2, st.tuples(requests()), send_request),
        Kind(0.2, st.tuples(BROKEN), send_broken),
    ]


async def abuse(site: Site, tally: Tally, examples: int) -> None:
    """Send so many examples of a kind with a share of 1; each is other than the last time."""
    for kind in kinds(site.wire.name):
        await volume(examples_of(kind, site, tally, max(2, round(examples * kind.share))))


def examples_of(kind: Kind, site: Site, tally: Tally, count: int) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.strategy)
    def test(drawn: tuple[Any, ...]) -> None:
        note(f"{kind.send.__name__}: {drawn!r}")
        on(loop, kind.send(site, tally, *drawn))

    return test


async def assert_alive(site: Site) -> None:
    """A valid client is served, and of all others none is left."""
    assert (await site.call(A, "echo", 1)).output == [1]
    for key in KEYS:
        query = get_or_create("echo", key)
        async with site.connect(query) as socket:
            assert await socket.ask(0, "echo", 2) == [2]

            async def alone(socket: Any = socket) -> bool:
                return bool(await socket.ask(1, "connections") == 1)

            await eventually(alone)


def assert_quiet(log: str) -> None:
    """No exception, and nothing that the server holds for an error of its own."""
    found = re.findall(r".*(?:Traceback|Exception in ASGI|\bERROR\b|\bCRITICAL\b).*", log)
    assert not found, found[:5]


def resident(process: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


@asynccontextmanager
async def sites(address: str) -> AsyncIterator[list[Site]]:
    async with httpx.AsyncClient(timeout=PATIENCE, verify=False) as http:
        yield [Site(address, wire, http) for wire in (JSON, CBOR)]


def served(directory: Path) -> ServedCommand:
    return ServedCommand(directory, "dev", "malformed_actors:App", "--store", "memory://")


NOT_UTF_8 = b"\x62\xc3\x28"
CALL = b"\xa1\x61b\xa1\x62ar\xa3\x61i"
HEAVY = b"\xbb" + b"\xff" * 8 + b"\x61a" + b"\x00" * 20_000
"""A map of more members than any bytes hold, and long enough to be weighed first."""
FOUND = [
    CALL + b"\x07\x61n" + NOT_UTF_8 + b"\x61a\x81\x01",
    CALL + b"\x07\x61n\x64echo\x61a\x81" + NOT_UTF_8,
    CALL + b"\x07\x61n\x64echo\x61a\x81\xa1" + NOT_UTF_8 + b"\x01",
    CALL + NOT_UTF_8 + b"\x61n\x64echo\x61a\x80",
    CALL + b"\x07\x61n\x64echo\x61a" + NOT_UTF_8,
    b"\xa1\x61b\xa1\x62sr\xa2\x61e" + NOT_UTF_8 + b"\x61s\xf5",
    b"\xa1\x61b" + NOT_UTF_8,
    *(
        CALL + b"\x07\x61n\x64echo\x61a\x81" + bytes.fromhex(item)
        for item in (
            "1b0100000000000001",
            "1b0100000000000000",
            "7f00ff",
            "7f61c361a9ff",
            "f818",
            "bf6161ff",
            "63eda080",
        )
    ),
    CALL + b"\x07\x61n\x63\xed\xa0\x80\x61a\x81\x01",
    HEAVY,
]


async def test_what_the_long_runs_found(tmp_path: Path) -> None:
    tally = Tally()
    with served(tmp_path) as server:
        async with sites(server.url.removeprefix("http://")) as (_, site):
            await send_frames(site, tally, [Frame(data, text=False) for data in FOUND])
            await send_posted(site, tally, FOUND)
            for data in FOUND:
                await send_body(site, tally, b"\xa1\x61a\x81" + data, "echo", False)
                await send_body(site, tally, data, "echo", False)
            for item in ("1b0100000000000001", "c2480100000000000001"):
                await send_body(site, tally, b"\xa1\x61a\x81" + bytes.fromhex(item), "echo", False)
            await assert_alive(site)
        assert_quiet(server.output)


async def test_a_few_hundred(tmp_path: Path) -> None:
    tally = Tally()
    with served(tmp_path) as server:
        async with sites(server.url.removeprefix("http://")) as both:
            for site in both:
                await abuse(site, tally, 30)
                await assert_alive(site)
        assert_quiet(server.output)
    assert tally.refused.total() > 300


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_ten_thousand(tmp_path: Path) -> None:
    tally, started = Tally(), time.monotonic()
    memory: list[int] = []
    with served(tmp_path) as server:
        async with sites(server.url.removeprefix("http://")) as both:
            while len(memory) < 2 or tally.refused.total() < 12_000:
                for site in both:
                    await abuse(site, tally, 150)
                    await assert_alive(site)
                memory.append(resident(server.process))
        assert_quiet(server.output)
    report(tally, memory, started)
    assert max(memory[1:]) - memory[0] < FLAT


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_through_ray_serve(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    """HAProxy, a replica with the gateway, the link, and the actors here; Redis below."""
    tally, started = Tally(), time.monotonic()
    memory: list[int] = []
    actors = {"echo": malformed_actors.Echo, "gate": malformed_actors.Gate}
    for wire in (JSON, CBOR):
        async with serving("served", wire, actors, stack=stack) as site:
            assert (await site.call(get_or_create("gate"), "echo")).code == "forbidden"
            (gateway,) = await site.take("malformed_actors", "GATEWAYS")
            for _ in range(4):
                await abuse(site, tally, 60)
                await assert_alive(site)
                memory.append(resident(gateway))
        assert not stack.logged, stack.logged[:5]
    report(tally, memory, started)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert tally.refused.total() > 2_500
    assert max(memory[2:]) - memory[1] < FLAT


def report(tally: Tally, memory: list[int], started: float) -> None:
    taken = time.monotonic() - started
    print(tally, f"{tally.refused.total()} refused in {taken:.0f} s", sep="\n")
    print("KiB after each round:", *(size >> 10 for size in memory))
