"""No password among the arguments of a command: other users can read these."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from rivet_ray.cli import arguments
from rivet_ray.cluster import ClusterSpec
from rivet_ray.errors import StoreError
from rivet_ray.store import STORE_VARIABLE, store_url

SECRET = "redis://:s3cr3t@127.0.0.1/0"
PLAIN = "redis://127.0.0.1/0"


@pytest.fixture
def begun_again(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of `os.execve`."""
    calls: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    return calls


@pytest.mark.parametrize("given", [["--store", SECRET], [f"--store={SECRET}"]])
def test_a_password_moves_into_the_environment(
    given: list[str], begun_again: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same interpreter, with all other arguments, in the same process."""
    before = [sys.executable, "-m", "rivet_ray", "serve", "a:App", *given, "--ray"]
    monkeypatch.setattr(sys, "orig_argv", before)
    arguments.hide_password()
    ((program, kept, environment),) = begun_again
    assert program == sys.executable
    assert kept == [sys.executable, "-m", "rivet_ray", "serve", "a:App", "--ray"]
    assert environment[STORE_VARIABLE] == SECRET


@pytest.mark.parametrize("given", [["--store", PLAIN], ["--store"], []])
def test_a_url_without_a_password_stays(
    given: list[str], begun_again: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "rivet_ray", "dev", "a:App", *given])
    arguments.hide_password()
    assert begun_again == []


def test_a_spec_does_not_show_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "redis" not in repr(ClusterSpec(("a:App",), SECRET))
    assert ClusterSpec(("a:App",), SECRET).store_url == SECRET
    monkeypatch.setenv(STORE_VARIABLE, PLAIN)
    assert ClusterSpec(("a:App",)).store_url == store_url() == PLAIN
    monkeypatch.delenv(STORE_VARIABLE)
    with pytest.raises(StoreError, match=STORE_VARIABLE):
        store_url()
