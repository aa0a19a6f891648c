"""The values of the store port."""

from __future__ import annotations

import dataclasses

import pytest

from rivet_ray.store import ActorRecord, ActorType, Claim, Commit, CommitResult, Fence, NewActor


def test_what_is_durable() -> None:
    """C1: an output may leave after these two results, and no other."""
    assert {result for result in CommitResult if result.durable} == {
        CommitResult.COMMITTED,
        CommitResult.ALREADY_DONE,
    }


def test_fences_compare_both_parts() -> None:
    assert Fence(1, "a") == Fence(1, "a")
    assert Fence(1, "a") != Fence(2, "a")
    assert Fence(1, "a") != Fence(1, "b")


@pytest.mark.parametrize("kind", [ActorRecord, Claim, Commit, Fence, NewActor])
def test_records_cannot_be_changed(kind: type) -> None:
    """Drivers and the runtime share them without copying."""
    assert kind.__dataclass_params__.frozen
    assert not hasattr(kind, "__dict__") or "__dict__" not in vars(kind)


def test_a_commit_changes_nothing_by_default() -> None:
    commit = Commit("id", Fence(1, "t"), 1, type=ActorType("default", "counter"))
    assert (dict(commit.put), commit.delete, commit.destroy) == ({}, frozenset(), False)
    assert commit.alarm is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        commit.sequence = 2  # type: ignore[misc]
