"""Hosts that do not answer keep nobody from finding the others (E10)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import Future
from typing import Any

import pytest

from rivet_ray.cluster import ClusterSpec, RayPlacement
from rivet_ray.cluster import placement as placement_module
from rivet_ray.remote import HostUnreachable

ray = pytest.importorskip("ray")


class Question:
    def __init__(self) -> None:
        self.answer: Future[str] = Future()

    def future(self) -> Future[str]:
        return self.answer


class Handles(RayPlacement):
    """Host actors made of nothing."""

    def __init__(self) -> None:
        super().__init__(ClusterSpec(("app:App",), "redis://nowhere"))
        self.questions: dict[str, list[Question]] = defaultdict(list)
        self.known: dict[str, str | Exception] = {}
        self.many = asyncio.Event()
        """64 hosts have been asked."""
        self._loop = asyncio.get_running_loop()

    def _find_or_start(self, host: str) -> Any:
        placement = self

        class Remote:
            def remote(self, wait: float) -> Question:
                question = Question()
                placement.questions[host].append(question)
                if len(placement.questions) == 64:
                    placement._loop.call_soon_threadsafe(placement.many.set)
                known = placement.known.get(host)
                if isinstance(known, str):
                    question.answer.set_result(known)
                elif known is not None:
                    question.answer.set_exception(known)
                return question

        class Handle:
            address = Remote()

        return Handle()


async def test_look_ups_that_are_stuck_stop_nobody_else() -> None:
    """Each held one of 16 threads for half a minute."""
    placement = Handles()
    placement.known["there"] = "10.0.0.1:1"
    stuck = [asyncio.ensure_future(placement.address_of(f"stuck {number}")) for number in range(64)]
    async with asyncio.timeout(10):
        await placement.many.wait()
        assert await placement.address_of("there") == "10.0.0.1:1"
    placement.questions["stuck 7"][0].answer.set_result("10.0.0.2:1")
    assert await stuck[7] == "10.0.0.2:1"
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    await placement.close()
    # An answer that nobody waits for any more does no harm.
    placement.questions["stuck 8"][0].answer.set_exception(ValueError("late"))
    await asyncio.sleep(0)


async def test_a_host_that_is_gone_is_looked_up_anew() -> None:
    placement = Handles()
    placement.known["gone"] = ray.exceptions.ActorDiedError()
    with pytest.raises(HostUnreachable, match="is not there"):
        await placement.address_of("gone")
    assert placement._handles == {}
    placement.known["gone"] = ""
    with pytest.raises(HostUnreachable, match="does not listen yet"):
        await placement.address_of("gone")
    await placement.close()


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_module, "PATIENCE", 0.05)
    placement = Handles()
    with pytest.raises(HostUnreachable, match="does not answer"):
        await placement.address_of("silent")
    await placement.close()
