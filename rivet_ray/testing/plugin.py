"""The pytest plugin: installed with rivet_ray, it offers the fixture `rivet`.

Needs pytest-asyncio (`pip install 'rivet-ray[test]'`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

try:
    import pytest_asyncio
except ImportError:
    pytest_asyncio = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from rivet_ray.registry import Registry
    from rivet_ray.testing.setup import Setup


@pytest.fixture(autouse=True)
def rivet_lines() -> None:
    """A line of the log that repeats one of the test before is written again."""
    from rivet_ray.repeated_lines import forget

    forget()


MakeSetup = Callable[..., Awaitable["Setup[Any]"]]

if pytest_asyncio is not None:

    @pytest_asyncio.fixture
    async def rivet() -> AsyncGenerator[MakeSetup]:
        """`test = await rivet(App)`: a registry in memory; see `rivet_ray.testing.Setup`.

        Takes the options of `rivet_ray.testing.setup_test`.
        """
        from rivet_ray.testing.setup import setup_test

        async with AsyncExitStack() as stack:

            async def make(registry: type[Registry], **options: Any) -> Setup[Any]:
                return await stack.enter_async_context(setup_test(registry, **options))

            yield make
