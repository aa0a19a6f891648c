"""Exceptions of actor code to failures on the port, in one place."""

from __future__ import annotations

import logging

from rivet_ray.errors import InternalError, Outcome, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Failure

log = logging.getLogger("rivet_ray.runtime")

_NO_DETAILS = values.encode({})


def failure_of(error: BaseException, outcome: Outcome | None, where: str) -> Failure:
    """What a caller may know of an error.

    A public error keeps its code, text and metadata. Any other is logged with
    its traceback and becomes `internal_error` without a word of its text
    (promise C10). What an error says of itself about the outcome counts only
    where `outcome` is None: it may come from another actor's call.
    """
    known = outcome or (error.outcome if isinstance(error, RivetError) else None)
    told = known.value if known else None
    if isinstance(error, RivetError) and error.public:
        try:
            metadata = None if error.metadata is None else values.encode(error.metadata)
        except (TypeError, OverflowError, RecursionError, ValueError) as fault:
            log.error("%s: the metadata of %r cannot be sent: %s", where, error.code, fault)
            metadata = None
        code, message = values.sendable(str(error.code)), values.sendable(str(error.message))
        return Failure(code, message, error.status, metadata, told)
    log.error("%s: %s", where, error or type(error).__name__, exc_info=error)
    return Failure(InternalError.code, InternalError.MESSAGE, 500, _NO_DETAILS, told)
