"""What clients were told, and whether what a server holds in the end agrees with it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["add", "append", "two_steps", "look"]
Told = Literal["answer", "not_started", "took_effect", "unknown"]


@dataclass
class Operation:
    """One call of one client, or all the calls that share an idempotency key."""

    client: int
    actor: str
    kind: Kind
    token: str
    keyed: bool
    begun: int
    ended: int = 0
    told: Told = "unknown"
    answer: Any = None
    tries: int = 1

    @property
    def known(self) -> bool:
        return self.told in ("answer", "took_effect")


@dataclass
class Found:
    """The state of one actor."""

    count: int = 0
    entries: list[str] = field(default_factory=list[str])
    first: list[str] = field(default_factory=list[str])
    second: list[str] = field(default_factory=list[str])


class History:
    """Written by clients while they run, read by `violations` in the end."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.repeats_differ: list[str] = []
        self.answered = 0
        self._moments = itertools.count(1)

    def begin(self, client: int, actor: str, kind: Kind, token: str, keyed: bool) -> Operation:
        operation = Operation(client, actor, kind, token, keyed, next(self._moments))
        self.operations.append(operation)
        return operation

    def end(self, operation: Operation, told: Told, answer: Any = None) -> None:
        operation.told = told
        operation.answer = answer
        operation.ended = next(self._moments)
        self.answered += told == "answer"

    def repeated(self, operation: Operation, answer: Any) -> None:
        """A key that had its answer was used again."""
        if answer != operation.answer:
            said = f"{operation.answer!r}, then {answer!r}"
            self.repeats_differ.append(f"{operation.actor}: {operation.token} was told {said}")

    def told(self) -> Counter[str]:
        return Counter(operation.told for operation in self.operations)

    def violations(self, found: dict[str, Found]) -> list[str]:
        """Every promise that was broken, in words."""
        broken = list(self.repeats_differ)
        for actor, state in found.items():
            mine = [operation for operation in self.operations if operation.actor == actor]
            checks = (_times, _places, _order, _looks, _counts, _steps)
            broken += [f"{actor}: {words}" for check in checks for words in check(mine, state)]
        return broken


def _of(operations: list[Operation], kind: Kind) -> list[Operation]:
    return [operation for operation in operations if operation.kind == kind]


def _times(operations: list[Operation], found: Found) -> Iterable[str]:
    """C2, C4, C8: what took effect is there once, what did not start is not there."""
    times = Counter(found.entries)
    for operation in _of(operations, "append"):
        there = times.pop(operation.token, 0)
        allowed = {"not_started": (0,), "unknown": (0, 1)}.get(operation.told, (1,))
        if there not in allowed:
            key = " with a key" if operation.keyed else ""
            yield f"{operation.token}{key}: told {operation.told}, found {there} times"
    for token in times:
        yield f"{token}: found and never sent"


def _places(operations: list[Operation], found: Found) -> Iterable[str]:
    """C2: an answer is true for ever: the place that it names holds the token."""
    for operation in _of(operations, "append"):
        if operation.told == "answer" and not _holds(found, operation.answer, operation.token):
            yield f"{operation.token}: told place {operation.answer}, which holds another"


def _looks(operations: list[Operation], found: Found) -> Iterable[str]:
    """C2, C3: what was read stays, and reads do not go back."""
    for operation in _of(operations, "look"):
        if operation.told == "answer":
            size, last = operation.answer
            if size and not _holds(found, size, last):
                yield f"a look saw {last} at {size}, which holds another"


def _holds(found: Found, place: int, token: str) -> bool:
    return 0 < place <= len(found.entries) and found.entries[place - 1] == token


def _order(operations: list[Operation], found: Found) -> Iterable[str]:
    """C3: what began after something was told comes after it, for all clients together."""
    place = {token: index for index, token in enumerate(found.entries, 1)}
    moments: list[tuple[int, bool, Operation]] = []
    for operation in operations:
        if operation.kind == "look" or operation.kind == "append":
            moments.append((operation.begun, True, operation))
            if operation.known:
                moments.append((operation.ended, False, operation))
    known_size = 0
    size_at_begin: dict[int, int] = {}
    for _, begins, operation in sorted(moments, key=lambda moment: moment[0]):
        look = operation.kind == "look"
        if begins:
            size_at_begin[operation.begun] = known_size
            continue
        size = operation.answer[0] if look else place.get(operation.token, 0)
        before = size_at_begin[operation.begun]
        if size < before or (size == before and not look and size):
            yield f"{operation.kind} {operation.token} is at {size}, though {before} were known"
        known_size = max(known_size, size)
    for client in {operation.client for operation in operations}:
        appends = [item for item in _of(operations, "append") if item.client == client]
        places = [place[item.token] for item in appends if item.token in place]
        if places != sorted(places):
            yield f"client {client} finds its tokens in another order"


def _counts(operations: list[Operation], found: Found) -> Iterable[str]:
    """C2, C4: every increment that was told counts, no key counts twice."""
    adds = _of(operations, "add")
    told = Counter(add.told for add in adds)
    sure = told["answer"] + told["took_effect"]
    if not sure <= found.count <= sure + told["unknown"]:
        yield f"the count is {found.count}; sure are {sure}, possible {told['unknown']} more"
    answers = [add.answer for add in adds if add.told == "answer"]
    if len(set(answers)) != len(answers) or max(answers, default=0) > found.count:
        yield "two increments were told the same count, or one beyond the last"


def _steps(operations: list[Operation], found: Found) -> Iterable[str]:
    """C4: of a call that was cut in two, no half runs twice."""
    first, second = Counter(found.first), Counter(found.second)
    for operation in _of(operations, "two_steps"):
        halves = (first.pop(operation.token, 0), second.pop(operation.token, 0))
        allowed = {
            "answer": {(1, 1)},
            "took_effect": {(1, 0), (1, 1)},
            "not_started": {(0, 0)},
        }.get(operation.told, {(0, 0), (1, 0), (1, 1)})
        if halves not in allowed:
            yield f"{operation.token}: told {operation.told}, halves ran {halves} times"
    for token in first | second:
        yield f"{token}: a half was found and never sent"
