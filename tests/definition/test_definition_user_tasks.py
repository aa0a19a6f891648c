"""Tasks that user code starts: what they raise does not end the event loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from rivet_ray.definition.user_code import UserCodeFailed
from rivet_ray.definition.user_tasks import current, guard_tasks, outside, own_task

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=[current, outside], ids=["actor", "outside"])
def variable(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine on a loop whose tasks are guarded, as user code."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:

        async def guarded(work: Callable[[], Any]) -> Any:
            guard_tasks()
            guard_tasks()
            token = current.set("it")
            try:
                return await work()
            finally:
                current.reset(token)

        yield lambda work: runner.run(guarded(work))


async def _exits() -> None:
    await asyncio.sleep(0)
    raise SystemExit(3)


async def _interrupts_at_once() -> None:
    raise KeyboardInterrupt


ENDS = [_exits, _interrupts_at_once]


@pytest.mark.parametrize("end", ENDS)
def test_a_task_fails_alone(run: Callable[[Any], Any], end: Callable[[], Any]) -> None:
    async def work() -> str:
        task = asyncio.create_task(end(), name="mine")
        assert task.get_name() == "mine"
        assert end.__name__ in repr(task)
        with pytest.raises(UserCodeFailed, match="'it'"):
            await task
        return "alive"

    assert run(work) == "alive"


@pytest.mark.parametrize("end", ENDS)
def test_other_ways_to_start_one(run: Callable[[Any], Any], end: Callable[[], Any]) -> None:
    async def work() -> None:
        works: list[Any] = [end(), asyncio.sleep(0, "other")]
        found: list[Any] = await asyncio.gather(*works, return_exceptions=True)
        assert isinstance(found[0], UserCodeFailed)
        assert found[1] == "other"
        with pytest.raises(UserCodeFailed):
            await asyncio.wait_for(end(), 60)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(end())
        assert isinstance(caught.value.exceptions[0], UserCodeFailed)
        loop = asyncio.get_running_loop()

        def elsewhere() -> None:
            asyncio.run_coroutine_threadsafe(end(), loop).result(10)

        with pytest.raises(UserCodeFailed):
            await asyncio.to_thread(elsewhere)

    run(work)


def test_a_failure_that_nobody_awaits_is_logged(
    run: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        task = asyncio.ensure_future(_exits())
        await asyncio.wait([task])
        del task

    with caplog.at_level(logging.ERROR):
        run(work)
    assert "never retrieved" in caplog.text
    assert "SystemExit" in caplog.text


def test_results_cancellation_and_context_are_as_ever(run: Callable[[Any], Any]) -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def value() -> Any:
        await asyncio.sleep(0)
        return current.get()

    async def work() -> None:
        assert await asyncio.create_task(value()) == "it"
        begun, never = asyncio.create_task(waits()), asyncio.create_task(waits())
        never.cancel()
        await asyncio.wait([never])
        inside: Any = begun.get_coro()
        assert inspect.getcoroutinestate(inside) == "CORO_SUSPENDED"
        begun.cancel()
        await asyncio.wait([begun])
        assert begun.cancelled()
        assert never.cancelled()

    run(work)
    assert ended == ["cancelled"]


async def test_only_tasks_of_user_code_are_wrapped(variable: Any) -> None:
    guard_tasks()
    work = asyncio.sleep(0)
    task = asyncio.create_task(work)
    assert task.get_coro() is work
    await task
    token = variable.set("it")
    user, own = asyncio.sleep(0), asyncio.sleep(0)
    tasks = asyncio.create_task(user), own_task(own)
    variable.reset(token)
    assert tasks[0].get_coro() is not user
    assert tasks[1].get_coro() is own
    await asyncio.gather(*tasks)


async def test_a_factory_that_is_there_makes_the_tasks() -> None:
    made: list[Any] = []

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        made.append(work)
        return asyncio.Task(work, loop=loop, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    guard_tasks()
    await asyncio.create_task(asyncio.sleep(0))
    assert len(made) == 1
    loop.set_task_factory(None)
