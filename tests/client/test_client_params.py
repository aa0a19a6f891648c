"""Parameters that a function makes: new ones for each call and each opening."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from client_worlds import PATIENCE, WAYS, eventually, world
from starlette.requests import Request
from starlette.websockets import WebSocket

from rivet_ray import Actor, Outcome, Registry, SyncClient, Unauthorized, action, use
from rivet_ray.client import given
from rivet_ray.errors import InvalidParams, RequestFailed

valid: set[str] = set()


class Guarded(Actor[int, None, Any]):
    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: Any) -> None:
        if params not in valid:
            raise Unauthorized("The token has expired.")
        valid.discard(params)  # Each serves once.

    async def on_fetch(self, request: Request) -> str:
        return str(request.state.params)

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.params)

    @action
    def used(self) -> str:
        return self.conn.params


class App(Registry):
    guarded = use(Guarded)


class Tokens:
    """Each is another one."""

    def __init__(self) -> None:
        self.made = 0
        self.fails: Exception | None = None
        valid.clear()

    def __call__(self) -> str:
        if self.fails is not None:
            raise self.fails
        self.made += 1
        valid.add(f"token {self.made}")
        return f"token {self.made}"


def plain(tokens: Tokens) -> Callable[[], Any]:
    return tokens


def asynchronous(tokens: Tokens) -> Callable[[], Any]:
    async def token() -> str:
        await asyncio.sleep(0)
        return tokens()

    return token


KINDS = pytest.mark.parametrize("kind", [plain, asynchronous])


@WAYS
@KINDS
async def test_each_opening_has_its_own(transport: Any, kind: Any) -> None:
    tokens = Tokens()
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        # Given for the connection, and not for the handle.
        handle = client.guarded.get_or_create("k", params="none of these")
        async with handle.connect(params=kind(tokens)) as connection:
            back = asyncio.Event()
            connection.on("reconnected", back.set)
            connection.on("error", lambda error: pytest.fail(str(error)))
            for _ in range(2):
                made = tokens.made
                back.clear()
                road.cut()
                await asyncio.wait_for(back.wait(), PATIENCE)
                assert tokens.made > made


@WAYS
@KINDS
async def test_where_none_can_be_made_it_is_tried_again(transport: Any, kind: Any) -> None:
    tokens = Tokens()
    seen: list[Any] = []
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
        client.guarded.get_or_create("k", params=kind(tokens)).connect() as connection,
    ):
        connection.on("error", seen.append)
        for name in ("disconnected", "reconnected"):
            connection.on(name, lambda name=name: seen.append(name))
        # What the function says of its own patience does not end the connection.
        tokens.fails = TimeoutError("the issuer is away")
        road.cut()
        await eventually(lambda: len(seen) >= 3)
        waiting = asyncio.ensure_future(connection.actor.used())
        tokens.fails = None
        await waiting
        assert (seen[0], seen[-1]) == ("disconnected", "reconnected")
        assert {str(error) for error in seen[1:-1]} == {"the issuer is away"}


@WAYS
async def test_the_first_opening_raises_what_the_function_raised(transport: Any) -> None:
    tokens = Tokens()
    tokens.fails = LookupError("no token")
    seen: list[Any] = []
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        handle = client.guarded.get_or_create("k", params=tokens)
        with pytest.raises(LookupError, match="no token"):
            async with handle.connect():
                pass
        connection = handle.connect()
        connection.on("error", seen.append)
        with pytest.raises(RequestFailed, match="no token") as caught:
            await connection.actor.used()
        assert caught.value.outcome is Outcome.NOT_STARTED
        assert seen == [tokens.fails]
        assert road.opened == 0


@KINDS
async def test_each_call_has_its_own(kind: Any) -> None:
    tokens = Tokens()
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        made = await client.guarded.create("made", params=kind(tokens))
        handle = client.guarded.get_or_create("k", params=kind(tokens))
        assert await handle.used() == "token 2"
        assert await handle.used() == "token 3"
        assert await made.used() == "token 4"
        assert (await handle.fetch("x")).text == "token 5"
        async with handle.websocket("x") as socket:
            assert await socket.recv() == "token 6"
        await handle.resolve()
        assert await handle.used() == "token 8"
        tokens.fails = LookupError("no token")
        with pytest.raises(LookupError):
            await handle.used()
        with pytest.raises(LookupError):
            async with handle.websocket("x"):
                pass


async def test_the_time_of_the_function_is_the_calls() -> None:
    async with world(App) as (road, _), App.client(road.url, timeout=0.05) as client:

        async def never() -> str:
            await asyncio.Event().wait()
            raise AssertionError

        handle = client.guarded.get_or_create("k", params=never)
        with pytest.raises(RequestFailed, match="params") as caught:
            await handle.used()
        assert caught.value.outcome is Outcome.NOT_STARTED
        with pytest.raises(RequestFailed, match="not open within") as opening:
            await handle.connect()
        assert opening.value.outcome is Outcome.NOT_STARTED

        async def slowly() -> str:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            await given.within(slowly, 1.0)
        assert (await given.within(lambda: 1, 5.0))[1] < 5.0


async def test_a_function_that_wants_arguments_is_refused_at_once() -> None:
    async with App.client("http://127.0.0.1:9") as client:
        with pytest.raises(TypeError, match="without arguments"):
            client.guarded.get("k", params=lambda token: token)  # type: ignore[arg-type, misc]
        with pytest.raises(TypeError, match="without arguments"):
            client.guarded.get("k").connect(params=lambda token: token)  # type: ignore[arg-type, misc]


@WAYS
@KINDS
async def test_blocking_code(transport: Any, kind: Any) -> None:
    """A plain function may block: it does not hold up what the client does meanwhile."""
    tokens = Tokens()
    threads: set[str] = set()

    def token() -> Any:
        threads.add(threading.current_thread().name)
        return kind(tokens)()

    async with world(App) as (road, _):

        def program() -> None:
            with App.sync_client(road.url, transport=transport, timeout=PATIENCE) as client:
                handle = client.get_or_create(Guarded, "k", params=token)
                first = handle.call(Guarded.used)
                assert handle.call(Guarded.used) != first
                with handle.connect(params=token) as connection:
                    back = threading.Event()
                    connection.on("reconnected", back.set)
                    road_loop.call_soon_threadsafe(road.cut)
                    assert back.wait(PATIENCE)
                fails(client)

        def fails(client: SyncClient) -> None:
            tokens.fails = LookupError("no token")
            with pytest.raises(LookupError):
                client.create("guarded", "l", params=token)
            with pytest.raises(LookupError):
                client.get("guarded", "l", params=token).connect().open()

        road_loop = asyncio.get_running_loop()
        await asyncio.to_thread(program)
    assert not any(name.startswith("rivet_ray client") for name in threads)


@WAYS
async def test_letters_count_as_much_on_every_way(transport: Any) -> None:
    """4 KiB of UTF-8: in a header each of them is an escape of six bytes."""
    text = "文" * 1_364
    valid.clear()
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        handle = client.guarded.get_or_create("k", params=text)
        valid.add(text)
        assert await handle.used() == text
        valid.add(text)
        assert (await handle.fetch("x")).text == text
        valid.add(text)
        async with handle.websocket("x") as socket:
            assert await socket.recv() == text
        valid.add(text)
        async with handle.connect() as connection:
            assert await connection.actor.used() == text
        with pytest.raises(InvalidParams):
            await client.guarded.get_or_create("k", params=text + "文").used()
