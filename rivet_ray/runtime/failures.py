"""Exceptions of actor code to failures on the port, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from rivet_ray.definition.user_code import call, described
from rivet_ray.errors import InternalError, Outcome, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Failure
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.runtime")

_NO_DETAILS = values.encode({})


def failure_of(error: BaseException, outcome: Outcome | None, where: str) -> Failure:
    """What a caller may know of an error.

    A public error keeps its code, text and metadata. Any other is logged with
    its traceback and becomes `internal_error` without a word of its text
    (promise C10). What an error says of itself about the outcome counts only
    where `outcome` is None: it may come from another actor's call. Never raises:
    a public error of which nothing can be told is a hidden one.
    """
    if isinstance(error, RivetError):
        try:
            return call(where, _told, error, outcome, where)
        except Exception as fault:
            log.error("%s: an error cannot be told: %s", where, described(fault), extra=REPEATED)
    known = outcome.value if outcome else None
    log.error("%s: %s", where, described(error), exc_info=error, extra=REPEATED)
    return Failure(InternalError.code, InternalError.MESSAGE, 500, _NO_DETAILS, known)


def _told(error: RivetError, outcome: Outcome | None, where: str) -> Failure:
    """Users derive errors: attributes and metadata of theirs may be anything."""
    known = outcome or error.outcome
    told = Outcome(known).value if known else None
    if not error.public:
        log.error("%s: %s", where, described(error), exc_info=error, extra=REPEATED)
        return Failure(InternalError.code, InternalError.MESSAGE, 500, _NO_DETAILS, told)
    try:
        metadata = (
            None if error.metadata is None else call(where, values.encode_sent, error.metadata)
        )
    except Exception as fault:
        code = described(error)
        log.error(
            "%s: the metadata of %s cannot be sent: %s",
            where,
            code,
            described(fault),
            extra=REPEATED,
        )
        metadata = None
    code, message = values.sendable(str(error.code)), values.sendable(str(error.told))
    status = error.status if _is_error_status(error.status) else 500
    return Failure(code, message, status, metadata, told)


def _is_error_status(status: object) -> bool:
    return isinstance(status, int) and 400 <= status < 600


def named(things: Sequence[str], most: int = 10) -> str:
    """A list for a line of the log."""
    more = len(things) - most
    return ", ".join(things[:most]) + (f" and {more} more" if more > 0 else "")
