"""Actors that are destroyed a few seconds after their last use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from rivet_ray import Actor, Registry, action, use

AFTER = 4.0


@dataclass
class GuestState:
    count: int = 0


class Guest(Actor[GuestState]):
    public = True
    destroy_after = timedelta(seconds=AFTER)
    sleep_after = 0.2

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action(readonly=True)
    def get(self) -> int:
        return self.state.count


class App(Registry):
    guest = use(Guest)
