"""Connections through HAProxy and two Serve replicas, cut at random bytes (C5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from cluster_worlds import PATIENCE, ServeProcess
from cut_actors import App
from cutting import cut_anywhere
from road import road_to

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
async def served(store: str) -> AsyncIterator[ServeProcess]:
    served = ServeProcess(store, "coordinate", "--replicas", "2", registry="cut_actors:App")
    await served.start()
    yield served
    await served.end()


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_thousand_cuts(
    served: ServeProcess, transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each replica takes the connection over from the other, which may still have it."""
    async with (
        road_to(int(served.url.rpartition(":")[2])) as road,
        App.client(served.url, timeout=PATIENCE) as beside,
    ):
        await beside.counter.get_or_create(transport).hooks()
        found = await cut_anywhere(road, beside, transport, 1_000, monkeypatch, PATIENCE)
        assert found == set(served.gateways())
