"""Actors that keep a process from ending, each in its own way."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

from rivet_ray import Actor, Registry, action, use

FOREVER = 1_000.0


class Stuck(Actor[dict[str, int]]):
    public = True

    def create_state(self, input: None) -> dict[str, int]:
        return {"count": 0}

    async def on_stop(self) -> None:
        while self.state["count"] == 99:
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                continue

    @action
    def add(self) -> int:
        self.state["count"] += 1
        return self.state["count"]

    @action
    def never_stop(self) -> None:
        self.state["count"] = 99

    @action
    def block(self) -> None:
        print("blocking", flush=True)
        time.sleep(FOREVER)

    @action
    def start_thread(self) -> None:
        threading.Thread(target=time.sleep, args=(FOREVER,), name="of-the-user").start()

    @action
    async def use_executor(self) -> None:
        self.wait_until(asyncio.to_thread(time.sleep, FOREVER))

    @action
    async def exit_in_callbacks(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(sys.exit, 3)
        loop.call_later(0, sys.exit, 3)
        done = loop.create_future()
        done.add_done_callback(sys.exit)
        done.set_result(None)
        await asyncio.sleep(0.01)


class App(Registry):
    stuck = use(Stuck)
