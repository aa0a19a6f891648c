"""Ways in which a user's code ends that are no exceptions of the usual kind."""

from __future__ import annotations

from collections.abc import Callable


class Strange(BaseException):
    pass


def raises(error: type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def recurses() -> None:
    recurses()
