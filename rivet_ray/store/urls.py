"""Choosing a driver by the scheme of a URL.

A driver is an entry point of the group `rivet_ray.drivers`, named after its
scheme and pointing at `async def open(url: str) -> Store`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from importlib.metadata import EntryPoint, entry_points

from rivet_ray.errors import StoreError
from rivet_ray.store.ports import Store

GROUP = "rivet_ray.drivers"
VARIABLE = "RIVET_STORE"
"""The URL of the store in the environment, where no other user of the machine reads it."""

OpenDriver = Callable[[str], Awaitable[Store]]

PASSWORD = re.compile(r"([?&]\w*password=)[^&#]*")

_loaded: dict[str, OpenDriver] = {}
"""By scheme: to look through all installed packages takes up to 0.1 s."""


def _drivers() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def driver_schemes() -> list[str]:
    """The URL schemes for which a driver is installed."""
    return sorted(_drivers())


def shown(url: str) -> str:
    """A URL as it may be printed: without what can be a password, well written or not."""
    scheme, separator, rest = PASSWORD.sub(r"\1...", url).partition("://")
    if not separator or "@" not in rest or scheme == "file":
        return f"{scheme}{separator}{rest}"
    return f"{scheme}://...@{rest.rpartition('@')[2]}"


def store_url(given: str = "") -> str:
    """The URL that was given, or else that of the environment. Raises StoreError without either."""
    url = given or os.environ.get(VARIABLE, "")
    if not url:
        raise StoreError(f"There is no URL of a store. Set {VARIABLE}, here and on every node.")
    return url


def load_driver(url: str) -> OpenDriver:
    """Import the driver of a URL, whose scheme alone is looked at; quick where it was before.

    Raises StoreError for a scheme without a driver.
    """
    scheme, separator, _ = url.partition("://")
    if separator and scheme in _loaded:
        return _loaded[scheme]
    entry = _drivers().get(scheme) if separator else None
    if entry is None:
        known = ", ".join(f"{name}://" for name in driver_schemes())
        raise StoreError(f"No driver for the store {shown(url)!r}. Installed drivers: {known}.")
    try:
        driver: OpenDriver = entry.load()
    except ImportError as error:
        raise StoreError(
            f"The driver of {scheme}:// needs the package {error.name!r}: "
            f"pip install 'rivet-ray[{entry.module.rpartition('.')[2]}]'."
        ) from error
    _loaded[scheme] = driver
    return driver


async def open_store(url: str) -> Store:
    """Open the store that `url` names, such as `memory://`.

    Raises StoreError for a scheme without a driver and StoreUnavailable when
    the driver cannot reach its storage.
    """
    return await load_driver(url)(url)
