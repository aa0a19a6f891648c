"""kill -9 under load: what clients were told stays true (C2, C3, C4, C8)."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults_history import Found, History, Operation
from faults_load import CLIENTS, Killing

FLOOR = 200
"""Answered calls for each server that is killed, so that failing everything is no way to pass."""


async def kill(store: Path, rounds: int, *, seed: int = 1, planted: str = "") -> Killing:
    killing = Killing(store, seed=seed, planted=planted, floor=FLOOR)
    await killing.run(rounds)
    return killing


def check(killing: Killing, rounds: int) -> None:
    told = killing.history.told()
    assert told["answer"] >= rounds * FLOOR
    assert told["took_effect"] >= rounds
    assert told["not_started"] >= rounds
    # Each kill cuts off whoever was waiting, no more.
    assert 0 < told["unknown"] <= rounds * CLIENTS
    assert killing.kills >= rounds
    assert sum(operation.tries - 1 for operation in killing.history.operations) >= rounds
    assert killing.broken == []


async def test_three_kills(tmp_path: Path) -> None:
    """C2, C4, C8: nothing told is lost, nothing with a key is done twice, outcomes are true."""
    check(await kill(tmp_path, 3), 3)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_thirty_kills(tmp_path: Path) -> None:
    """As with three; there is time for rarer moments."""
    check(await kill(tmp_path, 30, seed=30), 30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "seen"),
    [
        ("relaxed", "told answer, found 0 times"),
        ("early_gate", "told answer, found 0 times"),
        ("keys_forgotten", "with a key: told answer, found 2 times"),
        ("outcome_wrong", "told not_started, found 1 times"),
    ],
)
async def test_a_planted_fault_is_seen(tmp_path: Path, planted: str, seen: str) -> None:
    """The same run is red when the server lacks one of its mechanisms.

    A kill has to hit a moment in which that matters: of four it may be none.
    """
    broken: list[str] = []
    for seed in range(1, 6):
        broken += (await kill(tmp_path / str(seed), 4, seed=seed, planted=planted)).broken
        if any(seen in words for words in broken):
            return
    pytest.fail(f"not seen in 20 kills: {broken[:20]}")


class Told(History):
    """A history that is written by hand."""

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)


def operation(
    token: str, told: str = "answer", answer: object = None, *, kind: str = "append", at: int = 1
) -> Operation:
    values = {"client": 1, "actor": "a", "kind": kind, "token": token, "keyed": False}
    return Operation(**values, begun=at, ended=at + 1, told=told, answer=answer)  # type: ignore[arg-type]


GOOD = [
    operation("x", answer=1, at=1),
    operation("y", "took_effect", at=3),
    operation("z", "unknown", at=5),
    operation("n", "not_started", at=7),
    operation("l", answer=[3, "z"], kind="look", at=9),
    operation("c", answer=1, kind="add", at=11),
    operation("s", kind="two_steps", at=13),
]
STATE = Found(count=1, entries=["x", "y", "z"], first=["s"], second=["s"])


def violations(operations: list[Operation], found: Found) -> list[str]:
    history = Told()
    for item in operations:
        history.add(item)
    return history.violations({"a": found})


def test_the_checker_accepts_what_may_be() -> None:
    """An unknown call may be there or not."""
    assert violations(GOOD, STATE) == []
    without = [item for item in GOOD if item.kind != "look"]
    assert violations(without, Found(1, ["x", "y"], ["s"], ["s"])) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found(1, ["y", "z"], ["s"], ["s"]), "x: told answer, found 0 times"),
        (Found(1, ["x", "y", "z", "x"], ["s"], ["s"]), "x: told answer, found 2 times"),
        (Found(1, ["x", "z"], ["s"], ["s"]), "y: told took_effect, found 0 times"),
        (Found(1, ["x", "y", "z", "n"], ["s"], ["s"]), "n: told not_started, found 1 times"),
        (Found(1, ["x", "y", "z", "q"], ["s"], ["s"]), "q: found and never sent"),
        (Found(1, ["y", "x", "z"], ["s"], ["s"]), "x: told place 1, which holds another"),
        (Found(1, ["x", "z", "y"], ["s"], ["s"]), "a look saw z at 3, which holds another"),
        (Found(1, ["x", "z", "y"], ["s"], ["s"]), "client 1 finds its tokens in another order"),
        (Found(1, ["y", "x", "z"], ["s"], ["s"]), "append y is at 1, though 2 were known"),
        (Found(0, ["x", "y", "z"], ["s"], ["s"]), "the count is 0"),
        (Found(2, ["x", "y", "z"], ["s"], ["s"]), "the count is 2"),
        (Found(1, ["x", "y", "z"], ["s"], []), "s: told answer, halves ran (1, 0) times"),
        (Found(1, ["x", "y", "z"], ["s", "s"], ["s"]), "s: told answer, halves ran (2, 1) times"),
    ],
)
def test_the_checker_sees_what_may_not_be(found: Found, words: str) -> None:
    """Each rule of the checker, broken alone."""
    assert any(words in item for item in violations(GOOD, found))
