"""The README's commands, run as they stand there (another port is the only change)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from dev_server import DevServer

ROOT = Path(__file__).parents[2]


def block(language: str, start: str) -> str:
    """The README's code block that begins with a line."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    found = [text for text in blocks if text.startswith(start)]
    assert len(found) == 1, f"the README has {len(found)} blocks that start with {start!r}"
    return found[0]


def test_the_first_five_minutes(tmp_path: Path) -> None:
    """A new user's first curl and first program do what the README says."""
    with DevServer("examples.counter:App", "examples.chat:App") as server:
        curl = block("sh", "curl").replace(":8080", f":{server.port}")
        for expected in ('{"o":5}', '{"o":10}'):
            answer = subprocess.run(
                ["sh", "-c", curl], capture_output=True, text=True, timeout=10, check=True
            )
            assert answer.stdout == expected

        program = block("python", "import asyncio").replace(":8080", f":{server.port}")
        ran = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert sorted(ran.stdout.splitlines()) == ["answer: 15", "event: 15"]


def test_the_counter_in_the_readme_is_the_example() -> None:
    """The class that the README shows is the one that `make dev` serves."""
    shown = block("python", "from dataclasses")
    example = (ROOT / "examples" / "counter.py").read_text()
    for line in shown.splitlines():
        assert line in example, line


def test_the_blocking_program() -> None:
    """The README's program without asyncio does what it says."""
    with DevServer("examples.counter:App") as server:
        program = block("python", "with App.sync_client").replace(":8080", f":{server.port}")
        ran = subprocess.run(
            [sys.executable, "-c", f"from examples.counter import App, Counter\n{program}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.split() == ["5", "6"]
