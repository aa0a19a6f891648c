"""`rivet-ray serve --ray` ends what does not end by itself."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from rivet_ray.cli import serve
from rivet_ray.cli.checks import CommandError

STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_cluster_that_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "ENDING", 0.5)
    keeper = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    keeper.stdout.readline()
    began = time.monotonic()
    with pytest.raises(CommandError, match="did not stop within 1 s and was ended"):
        serve._end(keeper, 1.0)
    assert 0.9 <= time.monotonic() - began < 10
    assert keeper.wait(10) < 0
    keeper.stdout.close()


def test_a_grace_that_is_too_short_is_refused() -> None:
    said = subprocess.run(
        [
            *(sys.executable, "-m", "rivet_ray", "serve", "m:App", "--ray"),
            *("--store", "redis://h", "--grace", "9"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert "grace" in said.stderr
