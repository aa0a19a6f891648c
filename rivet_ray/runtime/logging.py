"""`self.log`: structured lines on standard error, logfmt or JSON.

RIVET_LOG_FORMAT is `logfmt` (the default) or `json`; RIVET_LOG_LEVEL is one of
debug, info (the default), warning, error and critical.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from typing import Any, cast

import structlog
from structlog.typing import EventDict, Processor

from rivet_ray.definition import Log

FORMAT = "RIVET_LOG_FORMAT"
LEVEL = "RIVET_LOG_LEVEL"


def actor_log(name: str, key: tuple[str, ...], identity: str) -> Log:
    """The logger of one actor."""
    return cast("Log", _logger().bind(actor=name, key="/".join(key), id=identity))


def with_connection(log: Log, connection: str) -> Log:
    """The same logger, for the turn of a connection."""
    return cast("Log", cast("Any", log).bind(connection=connection))


@functools.cache
def _logger() -> Any:
    level = getattr(logging, os.environ.get(LEVEL, "info").upper(), logging.INFO)
    as_json = os.environ.get(FORMAT, "logfmt").lower() == "json"
    renderer: Processor = (
        structlog.processors.JSONRenderer(json.dumps, default=str)
        if as_json
        else structlog.processors.LogfmtRenderer(
            key_order=["level", "msg"], drop_missing=True, bool_as_flag=False
        )
    )
    return structlog.wrap_logger(
        _Stderr(),
        processors=[_level_first, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


class _Stderr:
    """Standard error, as it is now: a test or a supervisor may have replaced it."""

    def msg(self, line: str) -> None:
        print(line, file=sys.stderr)

    debug = info = warning = error = critical = msg


def _level_first(logger: object, method: str, event: EventDict) -> EventDict:
    named = {"level": method.upper().replace("WARNING", "WARN"), "msg": event.pop("event")}
    fields = {f"{name}_" if name in named else name: _plain(value) for name, value in event.items()}
    return {**named, **fields}


def _plain(value: Any) -> Any:
    """What a line can hold; logfmt knows no nesting."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return str(value)
