"""What type checkers take, the compiler of definitions takes too."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_the_actors_that_checkers_like_can_be_made() -> None:
    found = runpy.run_path(str(Path(__file__).with_name("positive.py")))
    assert list(found["App"].definitions()) == ["counter", "fullActor", "child"]
