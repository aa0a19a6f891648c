"""The fixture `rivet`, as the README shows it, and what a `Setup` can do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from examples.counter import App as CounterApp
from examples.reminder import App
from rivet_ray.testing import setup_test

README = Path(__file__).parents[2] / "README.md"


async def test_the_readme_example(rivet: Any) -> None:
    """A user's first test of a schedule takes no time and is what the README says."""
    found = re.search(
        r"```python\nasync def test_reminder\(rivet\):\n(.*?)```", README.read_text(), re.S
    )
    assert found
    scope: dict[str, Any] = {"App": App}
    exec(f"async def shown(rivet):\n{found[1]}", scope)
    await scope["shown"](rivet)


async def test_time_stands_still_until_it_is_moved() -> None:
    async with setup_test(App) as test:
        reminder = test.client.reminder.get_or_create("me")
        await reminder.remind_me("tea", 60)
        await test.clock.advance(59.9)
        assert await reminder.arrived() == []
        assert await reminder.pending() == ["tea"]
        await test.clock.advance(0.1)
        assert await reminder.arrived() == ["tea"]


@pytest.mark.parametrize("way", ["restart", "crash"])
async def test_actors_outlive_their_host(rivet: Any, way: str) -> None:
    """C2 and C6 in miniature: state and schedule are there after either."""
    test = await rivet(App)
    await test.client.reminder.get_or_create("me").remind_me("tea", 60)
    await getattr(test, way)()
    await test.clock.advance(60)
    assert await test.client.reminder.get("me").arrived() == ["tea"]


async def test_two_registries_share_nothing(rivet: Any) -> None:
    first, second = await rivet(CounterApp), await rivet(CounterApp)
    await first.client.counter.get_or_create("k").increment(5)
    assert await second.client.counter.get_or_create("k").get_count() == 0
