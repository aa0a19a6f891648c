"""The errors of a wire, by their codes, as the classes that they left as."""

from __future__ import annotations

from typing import Any

from rivet_ray import errors
from rivet_ray.errors import InternalError, Outcome, RivetError, StoreError, UserError


def _tree(base: type[RivetError]) -> dict[str, type[RivetError]]:
    found: dict[str, type[RivetError]] = {}
    for error in base.__subclasses__():
        if error.__module__ == errors.__name__:
            found.update(_tree(error))
            if error.public:
                found.setdefault(error.code, error)
    return found


_BY_CODE = _tree(RivetError) | {UserError.code: UserError, InternalError.code: InternalError}


def from_code(
    code: str,
    message: str,
    metadata: Any = None,
    outcome: Outcome | None = None,
    status: int | None = None,
) -> RivetError:
    """The error of a wire as the class it left as; an unknown code is a `UserError`'s."""
    kind = _BY_CODE.get(code, UserError)
    if kind is UserError:
        error: RivetError = UserError(message, code, metadata, outcome=outcome)
    elif issubclass(kind, StoreError):
        error = kind(message, told=message, metadata=metadata, outcome=outcome)
    else:
        error = kind(message, metadata=metadata, outcome=outcome)
    error.status = status or error.status
    return error
