"""Actors whose saved data this code cannot load: each is named, and nothing of it changes."""

from __future__ import annotations

import logging

from rivet_ray.definition.fidelity import misfit
from rivet_ray.definition.user_code import described
from rivet_ray.errors import InternalError, InvalidArgument
from rivet_ray.runtime.migration import MigrationFailed

log = logging.getLogger("rivet_ray.runtime")

MOST = 1_000
"""Actors that are remembered as told of."""


class CannotLoad(InternalError):
    """What is saved of an actor does not fit the code. Its caller gets `internal_error`."""


def cannot_load(actor: object, place: str, error: BaseException) -> CannotLoad:
    """Name the actor, the path in what is saved of it, and why that does not fit."""
    return CannotLoad(f"{actor!r} cannot be loaded by this code: {why_not(place, error)}")


def why_not(place: str, error: BaseException) -> str:
    """The path in what is saved, beginning with `place`, and why it does not fit."""
    return str(error) if isinstance(error, MigrationFailed) else misfit_at(place, error)


def misfit_at(place: str, error: BaseException) -> str:
    """The path in what is saved at `place`, and why it does not fit."""
    cause = error.__cause__
    if cause is not None and isinstance(error, (InternalError, InvalidArgument)):
        error = cause
    if isinstance(error, Exception):
        path, why = misfit(error)
        if path or isinstance(error, ValueError):
            return f"{place}{path}: {why}"
    return f"{place}: {described(error)}"


class Unloadable:
    """Those of a host: the log names each once, not with each call."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}

    def tell(self, actor_id: str, error: CannotLoad) -> None:
        if actor_id in self._told:
            return
        if len(self._told) >= MOST:
            self._told.clear()
        self._told[actor_id] = None
        log.error("%s; nothing of it is changed", error)
