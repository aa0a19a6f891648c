"""Lines of the log that a stranger can cause at will: the first of a kind, then a count.

A caller may be refused, send what cannot be read or call an action that fails as often
as they like. Such lines are logged with `extra=REPEATED`. The first of a kind is written
at once; those that follow within `INTERVAL` are counted, and the count is written when
the interval is over, with the next line of any kind.

Two lines are of one kind if they have the same text but for its arguments, and the same
kind of exception from the same place in the code. By time of the records alone: logging
has no event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

INTERVAL: Final = 60.0
"""Seconds."""
REPEATED: Final[Mapping[str, Any]] = {"rivet_ray_repeated": True}
MOST_KINDS: Final = 1_000
"""Kinds that are known at once; beyond it all are forgotten, and written again."""


@dataclass(slots=True)
class _Kind:
    since: float
    level: int
    text: str
    count: int = 0


class RepeatedLines(logging.Filter):
    """The filter of one logger."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger
        self._kinds: dict[object, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written now."""
        if self._kinds:
            self._tell_what_is_over(record.created)
        if not getattr(record, "rivet_ray_repeated", False):
            return True
        place = _place(record)
        kind = self._kinds.get(place)
        if kind is not None:
            kind.count += 1
            return False
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        self._kinds[place] = _Kind(record.created, record.levelno, str(record.msg))
        return True

    def _tell_what_is_over(self, now: float) -> None:
        over = [
            place for place, kind in self._kinds.items() if not 0 <= now - kind.since < INTERVAL
        ]
        for kind in [self._kinds.pop(place) for place in over]:
            if kind.count:
                text = "%d more lines like the first one in %g s: %s"
                self._logger.log(kind.level, text, kind.count, now - kind.since, kind.text)

    def forget(self) -> None:
        """Write the next line of each kind again, and tell no counts."""
        self._kinds.clear()


def _place(record: logging.LogRecord) -> object:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return record.pathname, record.lineno
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return record.pathname, record.lineno, type(error), where


_filters: dict[str, RepeatedLines] = {}


def logger_of_strangers(name: str) -> logging.Logger:
    """The logger of that name, whose lines with `REPEATED` collapse."""
    logger = logging.getLogger(name)
    if name not in _filters:
        _filters[name] = RepeatedLines(logger)
        logger.addFilter(_filters[name])
    return logger


def forget() -> None:
    """For tests: what one has caused is no repetition in the next."""
    for found in _filters.values():
        found.forget()
