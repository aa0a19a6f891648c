"""A process whose scheduled action ends it: `python runtime_killer.py DIRECTORY`.

Prints a line for each attempt that begins. Where none is left it prints `failed`, the
entry's error and how often the action has run, and leaves in good order. The pauses
between attempts are a fiftieth of the real ones, and there are four.
"""

from __future__ import annotations

import asyncio
import os
import sys

from rivet_ray import Actor, Client, Registry, action, use
from rivet_ray.client.inline import InlineTransport
from rivet_ray.runtime import Standalone, schedule

ATTEMPTS = 4
FIRST_PAUSE = 0.02
END = 9


class Killer(Actor[None]):
    @action
    def kill_soon(self) -> None:
        if not self.schedule.list():
            self.schedule.after(0, Killer.kill)

    @action(private=True)
    def kill(self) -> None:
        assert self.schedule.current is not None
        print("attempt", self.schedule.current.attempt, flush=True)
        os._exit(END)

    @action
    def outcome(self) -> str | None:
        [entry] = self.schedule.list()
        return entry.error if entry.failed else None


class App(Registry):
    killer = use(Killer)


async def main(directory: str) -> None:
    backend = Standalone(App.definitions(), f"file://{directory}")
    killer = App(Client.over(InlineTransport(backend))).killer.get_or_create("k")
    await backend.start()
    await killer.kill_soon()
    error = None
    for _ in range(3000):
        error = await killer.outcome()
        if error is not None:
            break
        await asyncio.sleep(0.01)
    print("failed", error, flush=True)
    await backend.close()


if __name__ == "__main__":
    schedule.MAX_ATTEMPTS, schedule.FIRST_RETRY = ATTEMPTS, FIRST_PAUSE
    asyncio.run(main(sys.argv[1]))
