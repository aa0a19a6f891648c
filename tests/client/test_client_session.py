"""What a session says of calls that were sent on a socket that was lost."""

from __future__ import annotations

import asyncio

import pytest
from client_servers import Peer, socket_server

from rivet_ray import Client, Outcome
from rivet_ray.client import reconnecting
from rivet_ray.client.session import Session
from rivet_ray.errors import ConnectionClosed, RivetError
from rivet_ray.protocol import v0
from rivet_ray.testing.clock import settle


@pytest.mark.parametrize("ends", ["with the connection", "in time"])
async def test_a_call_that_was_sent_before_a_cut_may_have_begun(ends: str) -> None:
    """C8: also while it waits to be sent again, as its key allows."""
    session = Session("counter")
    lost = ConnectionClosed("lost")
    timeout = 0.01 if ends == "in time" else 60.0
    call = asyncio.ensure_future(session.call("add", b"", timeout, "key"))
    await settle()
    assert session.next_message() is not None
    session.cut(lost, again=True)
    if ends == "with the connection":
        session.end(lost)
    with pytest.raises(RivetError) as caught:
        await call
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("sent_before", [False, True])
async def test_what_did_not_start_this_time_may_have_begun_before(
    sent_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8: the server speaks of the call that it refused, not of the one that the cut hid."""
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE", 0.01)
    asked: list[tuple[str, str | None]] = []

    async def script(peer: Peer) -> None:
        await peer.init()
        request = await peer.action()
        asked.append((request.name, request.key))
        if sent_before and len(asked) == 1:
            peer.socket.transport.abort()
            return
        refusal = v0.ErrorMessage("overloaded", "Not now.", None, request.id, Outcome.NOT_STARTED)
        await peer.send(refusal)
        await peer.socket.wait_closed()

    async with (
        socket_server(script) as server,
        Client(server.url) as client,
        client.actor("counter", "k").connect() as connection,
    ):
        with pytest.raises(RivetError) as caught:
            await connection.actor.with_options(idempotency_key="once").call("add")
    assert caught.value.code == "overloaded"
    assert asked == [("add", "once")] * (2 if sent_before else 1)
    assert caught.value.outcome is (Outcome.UNKNOWN if sent_before else Outcome.NOT_STARTED)


async def test_a_call_that_is_given_up_in_the_moment_of_a_cut() -> None:
    """Its task has not run yet; the others wait for the next socket."""
    session = Session("counter")
    calls = [asyncio.ensure_future(session.call("add", b"", 60.0)) for _ in range(2)]
    await settle()
    calls[0].cancel()
    session.cut(ConnectionClosed("lost"), again=True)
    await settle()
    assert calls[0].cancelled()
    message = session.next_message()
    assert isinstance(message, v0.ActionRequest)
    session.receive(v0.ActionResponse(message.id, b"answer"))
    assert await calls[1] == b"answer"
    assert session.next_message() is None
