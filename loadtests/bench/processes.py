"""Processes of a server under load: which there are, and what each of them costs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rivet_ray_serve.local import descendants

KINDS = {
    "haproxy": "HAProxy",
    "ServeReplica": "gateway",
    "HostActor": "host",
    "ProxyActor": "Serve proxy",
    "NaiveCounter": "actor",
}
"""What a process's title holds, and what it is called in the report."""


def kind_of(process: int) -> str | None:
    try:
        title = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    return next((kind for word, kind in KINDS.items() if word in title), None)


def of_kind(root: int, kind: str) -> list[int]:
    return [process for process in descendants(root) if kind_of(process) == kind]


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_by_kind(root: int, others: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds of the processes that came of `root`, and of others by name."""
    spent = {name: cpu_seconds(process) for name, process in others.items()}
    for process in descendants(root):
        kind = kind_of(process)
        if kind is not None:
            spent[kind] = spent.get(kind, 0.0) + cpu_seconds(process)
    return spent


def memory_megabytes(process: int) -> float:
    """Resident memory, shared pages included."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
