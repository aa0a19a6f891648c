"""Bad input at volume: always a typed answer, never a fault of the server."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import cbor2
import pytest
from gateway_malformed import BODIES, FRAMES, HEADER, PLAIN, QUERIES
from gateway_tally import CALL_ERRORS, on, volume
from gateway_wire import JSON, PATIENCE, WIRES, Answer, Serve, Site, Socket, Wire, get_or_create
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from rivet_ray import Actor, action

EXAMPLES = 150
VOLUME = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Point:
    x: int
    y: float = 0.0
    name: str | None = None


class Echo(Actor[dict[str, int]]):
    public = True

    def create_state(self, input: Any) -> dict[str, int]:
        return {}

    @action
    def echo(self, *values: Any) -> list[Any]:
        return list(values)

    @action
    def typed(self, number: int, points: list[Point], by_name: dict[str, Point] | None) -> int:
        return number + len(points) + len(by_name or {})


ACTORS = {"echo": Echo}
A = get_or_create("echo", "a")

# --- What they may get ------------------------------------------------------------------


def assert_typed(answer: Answer) -> None:
    """200 with an output, or an error of ours in the right encoding; no fault of the server."""
    assert 200 <= answer.status < 500, (answer.status, answer.raw)
    if answer.status == 200:
        assert isinstance(answer.body, dict)
        assert set(answer.body) <= {"o", "i"}
        return
    if "success" in answer.body:
        return
    assert answer.code
    assert answer.outcome == "not_started"


def assert_no_faults(caplog: pytest.LogCaptureFixture) -> None:
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not faults, [(record.name, record.getMessage(), record.exc_text) for record in faults]


async def assert_alive(site: Site) -> None:
    assert (await site.call(A, "echo", 1)).output == [1]
    async with site.connect(A) as socket:
        assert await socket.ask(0, "echo", 2) == [2]


# --- HTTP -----------------------------------------------------------------------------------


async def test_bodies(serve: Serve, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    site, loop = await serve(ACTORS), asyncio.get_running_loop()

    async def send(body: bytes, name: str) -> None:
        answer = await site.post(f"/actors/actions/{name}", site.headers(A), body)
        assert_typed(answer)

    @VOLUME
    @given(BODIES, st.sampled_from(["echo", "typed"]))
    def test(bodies: tuple[bytes, bytes], name: str) -> None:
        on(loop, send(bodies[wire.name == "cbor"], name))

    await volume(test)
    await assert_alive(site)
    assert_no_faults(caplog)


async def test_headers(serve: Serve, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    site, loop = await serve(ACTORS), asyncio.get_running_loop()
    body = wire.dumps({"a": [1]})

    async def send(headers: list[tuple[str, bytes]], path: str) -> None:
        response = await site.http.post(
            f"http://{site.address}{path}", headers=headers, content=body
        )
        # The encoding may be drawn too; what it is not, is answered in JSON.
        said = WIRES.get(dict(headers)["X-RivetKit-Encoding"].decode("latin-1"), JSON)
        decoded = said.loads(response.content)
        answer = Answer(response.status_code, response.headers, response.content, decoded)
        assert_typed(answer)

    @VOLUME
    @given(
        st.just(json.dumps(A)) | QUERIES,
        st.none() | HEADER | PLAIN.map(json.dumps),
        st.just(wire.name) | HEADER,
        st.sampled_from(["/actors/resolve", "/registry/actors/actions/echo"]),
    )
    def test(query: str, params: str | None, encoding: str, path: str) -> None:
        headers = [
            ("X-RivetKit-Query", query.encode("latin-1", "replace")),
            ("X-RivetKit-Encoding", encoding.encode("latin-1")),
        ]
        if params is not None:
            headers.append(("X-RivetKit-Conn-Params", params.encode("latin-1", "replace")))
        on(loop, send(headers, path))

    await volume(test)
    await assert_alive(site)
    assert_no_faults(caplog)


# --- WebSocket ------------------------------------------------------------------------------


async def test_frames(serve: Serve, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Each frame is answered, ignored as a subscription, or ends the socket with a code."""
    site, loop = await serve(ACTORS), asyncio.get_running_loop()

    async def send(frames: list[str | bytes]) -> None:
        async with site.connect(A) as socket:
            with suppress(ConnectionClosed):
                for frame in frames:
                    await socket.connection.send(frame)
                await socket.call(77_777, "echo", "last")
            end = await read_to_the_end(socket)
            assert end in (None, (1011, "malformed_message"))

    async def read_to_the_end(socket: Socket) -> tuple[int, str] | None:
        while True:
            try:
                ((kind, value),) = (await socket.next()).items()
            except ConnectionClosed as end:
                return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (0, "")
            assert kind in ("ar", "e")
            if kind == "e":
                assert value["c"] in CALL_ERRORS, value
                assert isinstance(value["ai"], int)
            elif value["i"] == 77_777:
                return None

    @VOLUME
    @given(st.lists(st.tuples(FRAMES, st.integers(0, 9)), min_size=1, max_size=3))
    def test(drawn: list[tuple[tuple[bytes, bytes], int]]) -> None:
        frames: list[str | bytes] = []
        for pair, wrong in drawn:
            data = pair[wire.name == "cbor"]
            # Now and then in a frame of the wrong type.
            as_text = (wire.name == "json") is (wrong > 0)
            frames.append(data.decode("utf-8", "replace") if as_text else data)
        on(loop, send(frames))

    await volume(test)
    await assert_alive(site)
    assert_no_faults(caplog)


CLOSES = {
    *("invalid_query_json", "invalid_request", "invalid_params", "actor_not_found"),
    *("actor_already_exists", "user_error"),
}


async def test_subprotocols(serve: Serve, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    site, loop = await serve(ACTORS), asyncio.get_running_loop()

    async def open_with(protocols: list[str]) -> None:
        async with site.offering([Subprotocol(item) for item in protocols]) as socket:
            frames: list[str | bytes] = []
            with suppress(ConnectionClosed):
                async with asyncio.timeout(PATIENCE):
                    while not frames or b"ct" not in _as_bytes(frames[-1]):
                        frames.append(await socket.connection.recv())
                return
            assert socket.connection.close_code == 1011
            assert socket.connection.close_reason in CLOSES
            assert len(frames) <= 1
            for frame in frames:
                body = cbor2.loads(frame) if isinstance(frame, bytes) else json.loads(frame)
                assert body["b"]["e"]["c"] == socket.connection.close_reason

    token = st.text(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"),
        min_size=1,
        max_size=20,
    )

    @VOLUME
    @given(
        token | QUERIES.map(_quoted) | st.just(_quoted(json.dumps(A))),
        st.just(wire.name) | token,
        st.none() | token | PLAIN.map(json.dumps).map(_quoted),
        st.lists(token, max_size=2),
        st.permutations([0, 1, 2, 3]),
    )
    def test(
        query: str, encoding: str, params: str | None, more: list[str], order: list[int]
    ) -> None:
        offered = [f"query.{query}", f"encoding.{encoding}", *more]
        if params is not None:
            offered.insert(1, f"conn_params.{params}")
        offered = [offered[index] for index in order if index < len(offered)] + ["rivetkit"]
        on(loop, open_with(offered))

    await volume(test)
    await assert_alive(site)
    assert_no_faults(caplog)


def _as_bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def _quoted(text: str) -> str:
    return quote(text, safe="") or "%20"
