"""What every command that serves finds out before it starts anything."""

from __future__ import annotations

from collections.abc import Sequence

from rivet_ray.clock import SystemClock
from rivet_ray.definition import CORS
from rivet_ray.errors import DefinitionError, StoreError
from rivet_ray.runtime.patience import close_store, open_in_time
from rivet_ray.store import driver_schemes, shown


class CommandError(Exception):
    """Something that the user can mend, in one line."""


def check_store(url: str) -> None:
    scheme = url.partition("://")[0]
    if scheme not in driver_schemes():
        known = ", ".join(f"{name}://" for name in driver_schemes())
        raise CommandError(f"There is no driver for the store {shown(url)!r}; there are: {known}")


async def try_store(url: str) -> None:
    """Find out now whether the store can be opened: a server would say it in a traceback.

    Raises CommandError.
    """
    try:
        opened = await open_in_time(SystemClock(), url)
    except StoreError as error:
        raise CommandError(str(error)) from error
    await close_store(SystemClock(), opened)


def cors_of(origins: Sequence[str]) -> CORS | None:
    """What `--cors-origin` says; None leaves it to the registry. Raises CommandError."""
    if not origins:
        return None
    try:
        return CORS(origin=origins[0] if list(origins) == ["*"] else origins)
    except DefinitionError as error:
        raise CommandError(f"--cors-origin: {'; '.join(error.faults)}") from error
