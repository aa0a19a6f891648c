"""`rivet-ray doctor`: the hosts of a store."""

from __future__ import annotations

import json

import pytest

from rivet_ray.cli import doctor as doctor_module
from rivet_ray.cli.doctor import examined
from rivet_ray.cli.report import MOST_HOSTS, WIDTH, Report
from rivet_ray.store import HostLease, Store
from rivet_ray.testing import ManualClock
from rivet_ray_drivers.memory import MemoryStore


async def _told(monkeypatch: pytest.MonkeyPatch, store: Store) -> Report:
    async def opened(*_: object) -> Store:
        return store

    monkeypatch.setattr(doctor_module, "open_in_time", opened)
    return await examined("memory://", ManualClock())


async def test_hosts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    for incarnation in ("b", "a", "gone"):
        await store.renew_lease(incarnation, 1, "10.0.0.1:7000")
    await store.renew_lease("b", 1234, "10.0.0.1:7000")
    await store.renew_lease("c", 1)
    await store.mark_dead("a", 1)
    await store.end_lease("gone")
    report = await _told(monkeypatch, store)
    assert json.loads(report.for_programs())["hosts"] == [
        {"incarnation": "a", "beat": 1, "address": "10.0.0.1:7000", "dead": True},
        {"incarnation": "b", "beat": 1234, "address": "10.0.0.1:7000", "dead": False},
        {"incarnation": "c", "beat": 1, "address": "", "dead": False},
    ]
    text = report.for_people()
    assert (
        "Hosts that nobody has marked as dead: 2; marked: 1.\n"
        "  b  10.0.0.1:7000  beat 1,234\n"
        "  c  no address  beat 1\n"
        "  a  10.0.0.1:7000  beat 1  dead\n"
    ) in text


async def test_a_store_without_hosts_has_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await _told(monkeypatch, MemoryStore())
    assert json.loads(report.for_programs())["hosts"] == []
    assert "Hosts" not in report.for_people()


def test_people_see_so_many_hosts() -> None:
    hosts = [HostLease(f"{n:03}\n", n, "x" * 200, dead=n < 60) for n in range(70)]
    lines = Report(hosts=hosts).for_people().splitlines()
    assert "These are 50 of them; --json has more." in lines
    assert sum(" beat " in line for line in lines) == MOST_HOSTS
    assert sum(line.endswith("dead") for line in lines) == MOST_HOSTS - 10
    assert max(map(len, lines)) <= WIDTH
