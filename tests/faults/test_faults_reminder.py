"""What the README promises a new user, with a real server and a real kill -9."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from faults_server import ROOT, Server

from rivet_ray import Client
from rivet_ray.errors import Interrupted, Outcome

EXAMPLE = "examples.reminder:App"
DELAY = 3.0


def serve(store: Path) -> Server:
    return Server(EXAMPLE, store, cwd=ROOT)


async def ask(server: Server, action: str, *arguments: Any) -> Any:
    async with Client(server.url) as client:
        return await client.actor("reminder", "me").call(action, *arguments)


async def until_it_says(server: Server, text: str, within: float) -> None:
    """Wait for a line in the server's log; asking the actor would wake it."""
    deadline = time.monotonic() + within
    while text not in server.output:
        assert time.monotonic() < deadline, server.output
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("down", ["before", "over"])
async def test_a_reminder_outlives_kill_9(tmp_path: Path, down: str) -> None:
    """C2, C6: killed and back before it is due, or down over that time: it arrives, once.

    Nothing touches the actor between the kill and the reminder.
    """
    with serve(tmp_path) as server:
        began = time.time()
        await ask(server, "remind_me", "tea", DELAY)
        told = time.time()
        assert await ask(server, "pending") == ["tea"]
        server.end(signal.SIGKILL)
    if down == "over":
        await asyncio.sleep(max(0.0, told + DELAY + 0.2 - time.time()))
    with serve(tmp_path) as server:
        await until_it_says(server, "reminder arrived", DELAY + 3)
        assert time.time() >= began + DELAY
        assert await ask(server, "arrived") == ["tea"]
        assert await ask(server, "pending") == []
        server.end(signal.SIGKILL)
    with serve(tmp_path) as server:
        # C6: its removal was in the write that held its effect.
        assert await ask(server, "arrived") == ["tea"]
        assert await ask(server, "pending") == []
        await asyncio.sleep(0.3)
        assert "reminder arrived" not in server.output


async def test_a_cancelled_reminder_stays_cancelled(tmp_path: Path) -> None:
    """C2: the cancellation was told, so kill -9 does not bring the reminder back."""
    with serve(tmp_path) as server:
        identity = await ask(server, "remind_me", "tea", 1.0)
        await ask(server, "remind_me", "cake", 1.2)
        assert await ask(server, "cancel", identity) is True
        server.end(signal.SIGKILL)
    with serve(tmp_path) as server:
        await until_it_says(server, "text=cake", 5)
        assert await ask(server, "cancel", identity) is False
        assert await ask(server, "arrived") == ["cake"]


# --- A key whose call was cut in two -----------------------------------------------


async def cut_in_two(store: Path, *, committed: bool, planted: str = "") -> Server:
    """Kill a server in the middle of a keyed call, and give the one after it.

    With `committed` another action of the actor was answered meanwhile, so the
    store holds the first half.
    """
    with Server("faults_actors:App", store, planted=planted) as server:
        async with Client(server.url) as client:
            waiting = client.actor("waiting", "w")
            # Created before, since the write of a new actor would hold the first half too.
            assert not await waiting.call("started")
            keyed = waiting.with_options(idempotency_key="once")
            call = asyncio.create_task(keyed.call("two_steps", "t"))
            if committed:
                await until_started(waiting)
                assert await waiting.call("append", "other") == 1
            else:
                await asyncio.sleep(0.3)
            assert not call.done()
            server.end(signal.SIGKILL)
            with pytest.raises(Exception, match="broke before") as lost:
                await call
            assert getattr(lost.value, "outcome", None) is Outcome.UNKNOWN
    return Server("faults_actors:App", store, planted=planted)


async def until_started(waiting: Any) -> None:
    for _ in range(500):
        if await waiting.call("started"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the call did not start")


async def retried(server: Server) -> tuple[Any, dict[str, Any]]:
    """What the retry of the call is told, and the state behind it."""
    async with Client(server.url) as client:
        waiting = client.actor("waiting", "w")
        keyed = waiting.with_options(idempotency_key="once")
        told: list[Any] = []
        for _ in range(2):
            try:
                call = asyncio.create_task(keyed.call("two_steps", "t"))
                await asyncio.sleep(0.2)
                # Lets a call that does run come to its end.
                await waiting.call("append", "let go")
                told.append(await call)
            except Interrupted as error:
                told.append((error.code, error.outcome))
        assert told[0] == told[1]
        return told[0], await waiting.call("everything")


async def test_an_interrupted_key_never_runs_again(tmp_path: Path) -> None:
    """C4: after a commit held the first half, the retry says interrupted, outcome unknown."""
    with await cut_in_two(tmp_path, committed=True) as server:
        told, state = await retried(server)
        assert told == ("interrupted", Outcome.UNKNOWN)
        assert (state["first"], state["second"]) == (["t"], [])
        server.end(signal.SIGKILL)
    with Server("faults_actors:App", tmp_path) as server:
        assert (await retried(server))[0] == ("interrupted", Outcome.UNKNOWN)


async def test_a_key_of_which_nothing_was_saved_runs(tmp_path: Path) -> None:
    """C4: no commit held anything of the call, so its retry is its first run."""
    with await cut_in_two(tmp_path, committed=False) as server:
        async with Client(server.url) as client:
            assert not await client.actor("waiting", "w").call("started")
            await client.actor("waiting", "w").call("append", "one")
        told, state = await retried(server)
        assert told == 1
        assert (state["first"], state["second"]) == (["t"], ["t"])


@pytest.mark.parametrize("planted", ["begun_forgotten", "keys_forgotten"])
async def test_without_the_record_it_runs_twice(tmp_path: Path, planted: str) -> None:
    """Of the checker: a server that forgets that a call has begun runs its first half twice."""
    with await cut_in_two(tmp_path, committed=True, planted=planted) as server:
        async with Client(server.url) as client:
            waiting = client.actor("waiting", "w")
            await waiting.call("append", "let go")
            await waiting.with_options(idempotency_key="once").call("two_steps", "t")
            state = await waiting.call("everything")
        assert state["first"] == ["t", "t"]
