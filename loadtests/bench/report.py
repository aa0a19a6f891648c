"""Rows of numbers: medians over repetitions, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("msgspec", "uvicorn", "uvloop", "websockets", "starlette", "ray", "redis")


@dataclass
class Row:
    """One measure: a value for each repetition."""

    name: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Report:
    """What one run of the benchmarks found."""

    rows: list[Row] = field(default_factory=list[Row])

    def measure(
        self, names: Mapping[str, str], repetitions: int, once: Callable[[], Mapping[str, float]]
    ) -> None:
        """Run `once` after a warm-up; `names` maps what it returns to units."""
        once()
        found = [once() for _ in range(repetitions)]
        for name, unit in names.items():
            self.add(Row(name, unit, [values[name] for values in found]))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        spread = f"{min(row.values):,.2f} to {max(row.values):,.2f}"
        print(f"{row.name:<58} {row.median:>12,.2f} {row.unit:<8} ({spread})", flush=True)

    def write(self, path: Path) -> None:
        """Save every value, with what it was measured on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                {
                    "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "commit": _commit(),
                    "machine": {
                        "cpus": os.cpu_count(),
                        "platform": platform.platform(),
                        "python": platform.python_version(),
                    },
                    "packages": {name: version(name) for name in PACKAGES},
                    "rows": [
                        {
                            "name": row.name,
                            "unit": row.unit,
                            "median": row.median,
                            "values": row.values,
                        }
                        for row in self.rows
                    ],
                },
                indent=2,
            )
            + "\n"
        )
        print(f"\nwritten to {path}")


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
