"""What older code does not know is put back where it was."""

from __future__ import annotations

from typing import Any

import pytest

from rivet_ray.definition.unknown import handed_on, unknown_in

# (as newer code saved it, as this code reads it, as this code writes it, what is saved)
CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    "a field": ({"a": 1, "z": 9}, {"a": 1}, {"a": 2}, {"a": 2, "z": 9}),
    "a field that is known by now": ({"a": 1, "z": 9}, {"a": 1}, {"z": 3}, {"z": 3}),
    "deep": (
        {"a": {"b": {"c": 1, "z": 9}}},
        {"a": {"b": {"c": 1}}},
        {"a": {"b": {"c": 2}}},
        {"a": {"b": {"c": 2, "z": 9}}},
    ),
    "an entry that is gone": ({"a": {"b": 1, "z": 9}}, {"a": {"b": 1}}, {}, {}),
    "an entry that is new": (
        {"a": {"b": 1, "z": 9}},
        {"a": {"b": 1}},
        {"a": {"b": 1}, "c": {"b": 1}},
        {"a": {"b": 1, "z": 9}, "c": {"b": 1}},
    ),
    "an object saved as a list": ([1, 2, 9], [1, 2], [3, 2], [3, 2, 9]),
    "an item": ([{"a": 1, "z": 9}], [{"a": 1}], [{"a": 2}], [{"a": 2, "z": 9}]),
    "an item that moved": (
        [{"a": 1, "z": 8}, {"a": 2, "z": 9}],
        [{"a": 1}, {"a": 2}],
        [{"a": 2}, {"a": 1}],
        [{"a": 2, "z": 9}, {"a": 1, "z": 8}],
    ),
    "an item that was removed": (
        [{"a": 1, "z": 8}, {"a": 2, "z": 9}],
        [{"a": 1}, {"a": 2}],
        [{"a": 2}],
        [{"a": 2, "z": 9}],
    ),
    "one removed and one changed": (
        [{"a": 1, "z": 8}, {"a": 2, "z": 9}],
        [{"a": 1}, {"a": 2}],
        [{"a": 3}],
        [{"a": 3}],
    ),
    "equal items": (
        [{"a": 1, "z": 8}, {"a": 1, "z": 9}],
        [{"a": 1}, {"a": 1}],
        [{"a": 1}, {"a": 1}],
        [{"a": 1, "z": 8}, {"a": 1, "z": 9}],
    ),
    "something else in its place": ({"a": {"b": 1, "z": 9}}, {"a": {"b": 1}}, {"a": 5}, {"a": 5}),
}


@pytest.mark.parametrize(("saved", "read", "written", "whole"), CASES.values(), ids=CASES)
def test_handed_on(saved: Any, read: Any, written: Any, whole: Any) -> None:
    unknown = unknown_in(saved, read)
    assert unknown is not None
    assert handed_on(unknown, read) == saved
    assert handed_on(unknown, written) == whole


@pytest.mark.parametrize("value", [1, "a", None, {}, [], {"a": [1, {"b": 2}]}])
def test_nothing_is_unknown_in_what_is_the_same(value: Any) -> None:
    assert unknown_in(value, value) is None
