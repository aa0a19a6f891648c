"""What a session says of calls that were sent on a socket that was lost."""

from __future__ import annotations

import asyncio

import pytest

from rivet_ray import Outcome
from rivet_ray.client.session import Session
from rivet_ray.errors import ConnectionClosed, RivetError
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
