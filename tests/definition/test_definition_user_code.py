"""The boundary: what user code raises ends nothing but its own call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from rivet_ray.definition.user_code import (
    UserCodeFailed,
    call,
    contained,
    described,
    finish,
    settle,
)
from rivet_ray.errors import InternalError


class Strange(BaseException):
    pass


ENDS: list[Callable[[], BaseException]] = [
    lambda: SystemExit(3),
    KeyboardInterrupt,
    asyncio.CancelledError,
    GeneratorExit,
    Strange,
]
"""What means more than an error of one call."""


def _raise(error: BaseException) -> Any:
    raise error


async def _raise_later(error: BaseException) -> Any:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("end", ENDS)
async def test_what_is_no_exception_becomes_one(end: Callable[[], BaseException]) -> None:
    error = end()

    async def plain() -> None:
        call("it", _raise, error)

    for attempt in (plain(), settle("it", _raise, error), settle("it", _raise_later, error)):
        with pytest.raises(UserCodeFailed) as caught:
            await attempt
        assert caught.value.__cause__ is error
        assert isinstance(caught.value, InternalError)
        assert not caught.value.public
        assert "'it'" in str(caught.value)
        assert "_raise" in str(caught.value)


async def test_exceptions_and_results_pass_as_they_are() -> None:
    fault = ValueError("no")
    with pytest.raises(ValueError, match="no") as caught:
        call("it", _raise, fault)
    assert caught.value is fault
    with pytest.raises(ValueError, match="no") as caught:
        await settle("it", _raise_later, fault)
    assert caught.value is fault
    assert contained("it", None, fault) is fault
    assert call("it", int, "5") == 5
    assert await settle("it", int, "5") == 5
    assert await settle("it", asyncio.sleep, 0, "later") == "later"


@pytest.mark.parametrize("shielded", [False, True])
async def test_a_cancellation_that_was_asked_for_passes(shielded: bool) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(settle("it", work) if shielded else finish("it", work, work()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_deadline_of_ours_passes() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await settle("it", asyncio.Event().wait)


async def test_the_result_of_a_cancelled_task_is_a_failure() -> None:
    gone = asyncio.ensure_future(asyncio.Event().wait())
    gone.cancel()
    await asyncio.wait([gone])
    with pytest.raises(UserCodeFailed, match="nobody has cancelled it"):
        call("it", gone.result)

    async def waits() -> bool:
        return await gone

    with pytest.raises(UserCodeFailed, match="nobody has cancelled it"):
        await settle("it", waits)


def test_a_coroutine_that_is_closed_with_its_loop_is_no_failure() -> None:
    loop = asyncio.new_event_loop()
    kept = settle("it", asyncio.sleep, 60)
    task = loop.create_task(kept)
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    left = settle("it", asyncio.Event().wait)
    loop.call_soon(left.send, None)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    left.close()
    gc.collect()


def test_an_error_whose_text_fails_is_described() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert described(Mute()) == "Mute"
    assert described(ValueError("no")) == "ValueError: no"
