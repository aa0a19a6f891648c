"""A command's arguments, which every user of a machine can read in its list of processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rivet_ray.store import STORE_VARIABLE, shown

OPTION = "--store"


def without_store(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without the option of a store, and its URL, if they have it."""
    kept: list[str] = []
    url: str | None = None
    rest = iter(arguments)
    for argument in rest:
        name, assigned, value = argument.partition("=")
        if name != OPTION:
            kept.append(argument)
            continue
        url = value if assigned else next(rest, None)
    return kept, url


def hide_password() -> None:
    """If the URL of the store is an argument with a password, begin again without it.

    The process stays the same one; the URL is in its environment then, which other
    users cannot read.
    """
    kept, url = without_store(sys.orig_argv)
    if url is None or shown(url) == url or sys.platform == "win32":
        return
    os.execve(sys.executable, kept, {**os.environ, STORE_VARIABLE: url})
