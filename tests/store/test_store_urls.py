"""Stores are opened by URL, through the entry points of drivers."""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import Store, driver_schemes, load_driver, open_store, shown, urls
from rivet_ray_drivers.memory import MemoryStore

ROOT = Path(__file__).parents[2]

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
    monkeypatch.setattr(urls, "_loaded", {})
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


@pytest.mark.parametrize(
    "url", ["nope://me:s3cr3t@host/1", "nope://:s3cr3t/x@host:1,host:2", "redsi://s3cr3t@[::1"]
)
async def test_an_error_shows_no_password(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        await open_store(url)
    assert "s3cr3t" not in str(raised.value)
    assert url.rpartition("@")[2] in str(raised.value)


def test_every_entry_point_names_a_function() -> None:
    """Those of the source, which are the installed ones only after an installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    points = project["project"]["entry-points"][urls.GROUP]
    assert {"redis+cluster", "redis+sentinel", "rediss+cluster", "rediss+sentinel"} <= set(points)
    for name, value in points.items():
        function = EntryPoint(name, value, urls.GROUP).load()
        assert inspect.iscoroutinefunction(function)


async def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("missing+x", "no_such_package.missing:open", urls.GROUP)
    monkeypatch.setattr(urls, "_drivers", lambda: {entry.name: entry})
    with pytest.raises(StoreError, match=r"pip install 'rivet-ray\[missing\]'"):
        await open_store("missing+x://host")


@pytest.mark.usefixtures("drivers")
async def test_the_driver_is_given_the_whole_url() -> None:
    url = "recorded://user:secret@host:1/path?option=1#x"
    assert isinstance(await open_store(url), MemoryStore)
    assert opened == [url]


@pytest.mark.usefixtures("drivers")
async def test_a_driver_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look through the installed packages takes long, and new hosts are waited for."""
    assert load_driver("recorded://") is open_recorded
    monkeypatch.setattr(urls, "_drivers", dict)
    assert isinstance(await open_store("recorded://host"), MemoryStore)
    assert opened == ["recorded://host"]


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


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://me:s3cr3t@cache:1/0?prefix=x", "redis://...@cache:1/0?prefix=x"),
        ("redis://:s3@cr3t@[::1]:1", "redis://...@[::1]:1"),
        ("redis://:s3/cr@3t@[::1]:1", "redis://...@[::1]:1"),
        ("redis+cluster://:s3cr3t@a:1,b:2", "redis+cluster://...@a:1,b:2"),
        (
            "redis+sentinel://a/service?sentinel_password=s3cr3t&prefix=x",
            "redis+sentinel://a/service?sentinel_password=...&prefix=x",
        ),
        (
            "redis+sentinel://a/s?sentinel_password=s3@cr3t",
            "redis+sentinel://a/s?sentinel_password=...",
        ),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("file:///data/a:b@c", "file:///data/a:b@c"),
        ("memory://", "memory://"),
    ],
)
def test_a_url_is_shown_without_its_passwords(url: str, text: str) -> None:
    assert shown(url) == text


async def test_a_scheme_that_is_mistyped_does_not_show_the_password() -> None:
    with pytest.raises(StoreError) as caught:
        await open_store("reds://me:s3cr3t@cache")
    assert "s3cr3t" not in str(caught.value)
