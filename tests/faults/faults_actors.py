"""What the killed servers serve: actors that remember everything they were told.

`FAULTS_PLANTED` in the environment names a fault of `faults_planted`, so that
the tests of the checkers can see them go red.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

from faults_planted import plant

from rivet_ray import Actor, Event, Registry, UserError, action, use

PLANTED = "FAULTS_PLANTED"


@dataclass
class JournalState:
    count: int = 0
    entries: list[str] = field(default_factory=list[str])
    first: list[str] = field(default_factory=list[str])
    second: list[str] = field(default_factory=list[str])


class Journal(Actor[JournalState]):
    public = True
    anonymous_keys = True

    @action
    def add(self) -> int:
        """How many there are now."""
        self.state.count += 1
        return self.state.count

    @action
    def append(self, token: str) -> int:
        """The place of the token, from 1."""
        self.state.entries.append(token)
        return len(self.state.entries)

    @action
    async def append_later(self, token: str) -> int:
        """As `append`, in a task and behind an await."""
        await asyncio.sleep(0)
        self.state.entries.append(token)
        return len(self.state.entries)

    @action
    def append_and_fail(self, token: str) -> None:
        """Its change is kept and its error says so."""
        self.state.entries.append(token)
        raise UserError("as asked", code="as_asked")

    @action
    def append_checked(self, token: str, times: int) -> int:
        """For calls that do not fit: nothing of them may ever be found."""
        self.state.entries.extend([token] * times)
        return len(self.state.entries)

    @action
    async def two_steps(self, token: str) -> None:
        """A change, a commit, another change."""
        self.state.first.append(token)
        await self.save()
        self.state.second.append(token)

    @action(readonly=True)
    def look(self) -> tuple[int, str]:
        """How many entries there are, and the last."""
        entries = self.state.entries
        return len(entries), entries[-1] if entries else ""

    @action(readonly=True)
    def everything(self) -> JournalState:
        return self.state


class Waiting(Actor[JournalState]):
    """Stops half-way until there are two entries, so that it can be killed there."""

    public = True
    anonymous_keys = True

    def on_start(self) -> None:
        self._two = asyncio.Event()
        self._look()

    def _look(self) -> None:
        if len(self.state.entries) >= 2:
            self._two.set()

    @action
    async def two_steps(self, token: str) -> int:
        self.state.first.append(token)
        await self._two.wait()
        self.state.second.append(token)
        return len(self.state.second)

    @action
    def append(self, token: str) -> int:
        self.state.entries.append(token)
        self._look()
        return len(self.state.entries)

    @action(readonly=True)
    def started(self) -> bool:
        return bool(self.state.first)

    @action(readonly=True)
    def everything(self) -> JournalState:
        return self.state


@dataclass
class Tally:
    count: int = 0


class Teller(Actor[Tally]):
    """Gives events: kept ones and others, with a change of its state and without one."""

    public = True
    kept = Event[int](durable=True)
    passing = Event[int]()

    @action
    def change(self, mark: int, durable: bool) -> None:
        self.state.count += 1
        self.broadcast(Teller.kept if durable else Teller.passing, mark)

    @action
    def tell(self, mark: int, durable: bool) -> None:
        self.broadcast(Teller.kept if durable else Teller.passing, mark)


class Forgetful(Journal):
    """The fault of the same name: answers leave before they are saved."""

    durability = "relaxed"


_fault = os.environ.get(PLANTED, "")
plant(_fault)


class App(Registry):
    journal = use(Forgetful if _fault == "relaxed" else Journal)
    waiting = use(Waiting)
    teller = use(Teller)
