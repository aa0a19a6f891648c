"""What a stranger can cause at will does not fill the log."""

from __future__ import annotations

import logging

import pytest

from rivet_ray.repeated_lines import INTERVAL, REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.tests.strangers")


class Log:
    """Lines at times of our own."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._factory = logging.getLogRecordFactory()
        self.now = 1_000.0

    def make(self, *args: object, **more: object) -> logging.LogRecord:
        record = self._factory(*args, **more)  # type: ignore[arg-type]
        record.created = self.now
        return record

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records]


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log(caplog)
    before = logging.getLogRecordFactory()
    monkeypatch.setattr(logging, "_logRecordFactory", found.make)
    assert logging.getLogRecordFactory() != before
    return found


def refuse(who: str) -> None:
    log.warning("%s is refused", who, extra=REPEATED)


def fail(error: Exception) -> None:
    try:
        raise error
    except Exception:
        log.exception("an action failed", extra=REPEATED)


def test_the_first_at_once_and_then_a_count(clock: Log) -> None:
    for number in range(1_000):
        refuse(f"client {number}")
    assert clock.lines == ["client 0 is refused"]
    clock.now += INTERVAL
    refuse("another")
    assert clock.lines[1:] == [
        "999 more lines like the first one in 60 s: %s is refused",
        "another is refused",
    ]


def test_the_count_comes_with_the_next_line_of_any_kind(clock: Log) -> None:
    for _ in range(3):
        refuse("mallory")
    clock.now += 2 * INTERVAL
    log.info("something else")
    log.warning("something else")
    assert clock.lines == [
        "mallory is refused",
        "2 more lines like the first one in 120 s: %s is refused",
        "something else",
    ]


def test_other_faults_are_other_kinds(clock: Log) -> None:
    for _ in range(5):
        fail(ValueError("one"))
        fail(KeyError("two"))
        refuse("mallory")
    assert len(clock.lines) == 3


def test_lines_of_our_own_are_never_held_back(clock: Log) -> None:
    for _ in range(5):
        log.warning("the store does not answer")
    assert len(clock.lines) == 5
