"""Stores are opened by URL, through the entry points of drivers."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import Store, driver_schemes, open_store, urls
from rivet_ray_drivers.memory import MemoryStore

opened: list[str] = []


async def open_recorded(url: str) -> Store:
    opened.append(url)
    return MemoryStore()


async def open_unreachable(url: str) -> Store:
    raise StoreUnavailable("nobody is there")


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more drivers, installed for one test."""
    found = urls._drivers()
    for name, function in (("recorded", open_recorded), ("unreachable", open_unreachable)):
        found[name] = EntryPoint(name, f"{__name__}:{function.__name__}", urls.GROUP)
    monkeypatch.setattr(urls, "_drivers", lambda: found)
    opened.clear()


def test_the_memory_driver_is_installed() -> None:
    assert "memory" in driver_schemes()
    assert driver_schemes() == sorted(driver_schemes())


async def test_memory_is_opened() -> None:
    store = await open_store("memory://")
    assert isinstance(store, MemoryStore)
    await store.close()


@pytest.mark.parametrize(
    "url",
    ["", "memory", "memory:", "memory:/", "://", "nope://", "nope://host/1", "MEMORY://", "/a"],
)
async def test_an_url_without_driver_is_refused(url: str) -> None:
    """The error names the URL and the drivers that there are."""
    with pytest.raises(StoreError, match="memory://") as raised:
        await open_store(url)
    assert not isinstance(raised.value, StoreUnavailable)
    assert repr(url) in str(raised.value)
    assert not raised.value.public


@pytest.mark.usefixtures("drivers")
async def test_the_driver_is_given_the_whole_url() -> None:
    url = "recorded://user:secret@host:1/path?option=1#x"
    assert isinstance(await open_store(url), MemoryStore)
    assert opened == [url]


@pytest.mark.usefixtures("drivers")
async def test_the_error_lists_every_driver() -> None:
    with pytest.raises(StoreError) as told:
        await open_store("nope://")
    listed = ", ".join(f"{scheme}://" for scheme in driver_schemes())
    assert {"memory", "recorded", "unreachable"} <= set(driver_schemes())
    assert str(told.value).endswith(f"Installed drivers: {listed}.")


@pytest.mark.usefixtures("drivers")
async def test_an_unreachable_store_is_told_as_such() -> None:
    with pytest.raises(StoreUnavailable, match="nobody is there"):
        await open_store("unreachable://")
