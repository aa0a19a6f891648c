"""Whatever user code raises in a callback, the loop of the process goes on (issue 14, item 1)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rivet_ray.definition.lasting_loop import last, new_event_loop

Loop = asyncio.AbstractEventLoop


class LastingSelector(asyncio.SelectorEventLoop):
    """asyncio's own loop."""

    def run_until_complete(self, future: Any) -> Any:
        return last(super().run_until_complete, asyncio.ensure_future(future, loop=self))


LOOPS: list[Callable[[], Loop]] = [new_event_loop, LastingSelector]


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture
def own_handler() -> Iterator[None]:
    """SIGINT is handled, as in every server of ours."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


def exit_(*_: object) -> None:
    sys.exit(3)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


async def exiting() -> None:
    exit_()


def done(loop: Loop, what: Callable[..., None]) -> None:
    future = loop.create_future()
    future.add_done_callback(what)
    future.set_result(None)


WAYS: dict[str, Callable[[Loop], Any]] = {
    "call_soon": lambda loop: loop.call_soon(exit_),
    "call_later": lambda loop: loop.call_later(0, exit_),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(exit_),
    "add_done_callback": lambda loop: done(loop, exit_),
    "a task of its own": lambda loop: asyncio.Task(exiting(), loop=loop),
    "KeyboardInterrupt": lambda loop: loop.call_soon(interrupt),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("own_handler")
def test_the_loop_goes_on(
    runner: asyncio.Runner, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    after: list[int] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        kept = WAYS[way](loop)
        loop.call_soon(after.append, 1)
        other = asyncio.create_task(asyncio.sleep(0.01, 2))
        for _ in range(3):
            await asyncio.sleep(0.001)
        del kept
        return await other

    assert runner.run(main()) == 2
    assert after == [1], "what was to run in the same turn of the loop"
    [record] = [record for record in caplog.records if record.name == "rivet_ray.runtime"]
    assert "Raise an error instead" in record.message
    assert record.exc_info


@pytest.mark.parametrize("raises", [exit_, interrupt])
def test_what_the_main_coroutine_raises_ends_it(
    runner: asyncio.Runner, raises: Callable[[], None]
) -> None:
    async def main() -> None:
        raises()

    with pytest.raises((SystemExit, KeyboardInterrupt)):
        runner.run(main())


CTRL_C = """
import asyncio, signal, sys
from functools import partial

from test_definition_lasting_loop import LOOPS

async def main():
    loop = asyncio.get_running_loop()
    # Twice: asyncio turns the first one into a cancellation, which this ignores.
    for _ in range(2):
        loop.call_soon(partial(signal.raise_signal, signal.SIGINT))
    for _ in range(100):
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            continue

signal.signal(signal.SIGINT, signal.default_int_handler)
with asyncio.Runner(loop_factory=LOOPS[int(sys.argv[1])]) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", range(len(LOOPS)))
def test_ctrl_c_ends_it_where_nobody_handles_it(loop: int) -> None:
    """In a process of its own: its signals must not meet those of the tests."""
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C, str(loop)],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        timeout=50,
        text=True,
    )
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.splitlines()[-1] == "KeyboardInterrupt"
