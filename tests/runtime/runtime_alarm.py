"""The actor of the tests of the schedule."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rivet_ray import Actor, Registry, UserError, action, use

START = 1_000_000_000.0
"""What a ManualClock shows first."""


@dataclass
class State:
    fired: list[str] = field(default_factory=list[str])
    attempts: list[int] = field(default_factory=list[int])
    count: int = 0


class Alarm(Actor[State]):
    def on_start(self) -> None:
        self.go = asyncio.Event()
        self.at: list[tuple[str, float]] = []

    @action
    def after(self, delay: float, text: str) -> str:
        return self.schedule.after(delay, Alarm.fire, text)

    @action
    def after_delta(self, seconds: float, text: str) -> str:
        return self.schedule.after(timedelta(seconds=seconds), "fire", text)

    @action
    def at_time(self, when: float, text: str) -> str:
        return self.schedule.at(datetime.fromtimestamp(when, UTC), Alarm.fire, text=text)

    @action
    def at_naive(self) -> None:
        self.schedule.at(datetime(2030, 1, 1), Alarm.fire, "never")

    @action
    def any(self, delay: float, name: str, *args: Any) -> str:
        return self.schedule.after(delay, name, *args)

    @action
    def fault_of(self, name: str, *args: Any) -> str:
        try:
            self.schedule.after(1, name, *args)
        except Exception as error:
            return type(error).__name__
        return "none"

    @action
    def many(self, delay: float, number: int) -> None:
        for index in range(number):
            self.schedule.after(delay, Alarm.count_up, index)

    @action
    def after_and_fail(self, delay: float) -> None:
        self.schedule.after(delay, Alarm.fire, "kept")
        raise UserError("after scheduling")

    @action
    def after_and_mutate(self, delay: float) -> None:
        value = ["given"]
        self.schedule.after(delay, Alarm.fire_all, value)
        value.append("added later")

    @action
    def cancel(self, entry: str) -> bool:
        return self.schedule.cancel(entry)

    @action
    def entries(self) -> list[tuple[str, list[Any], float, int, bool]]:
        return [
            (item.action, list(item.args), item.due.timestamp(), item.attempt, item.failed)
            for item in self.schedule.list()
        ]

    @action
    def errors(self) -> list[str | None]:
        return [item.error for item in self.schedule.list()]

    @action
    def fired(self) -> list[str]:
        return self.state.fired

    @action
    def current_is_none(self) -> bool:
        return self.schedule.current is None

    @action
    def open(self) -> None:
        self.go.set()

    @action(private=True)
    def fire(self, text: str) -> None:
        current = self.schedule.current
        assert current is not None
        self.state.fired.append(text)
        self.state.attempts.append(current.attempt)

    @action(private=True)
    def fire_all(self, texts: list[str]) -> None:
        self.state.fired.extend(texts)

    @action(private=True)
    def count_up(self, number: int) -> None:
        self.state.count += 1

    @action(private=True)
    def fail_until(self, attempt: int) -> None:
        current = self.schedule.current
        assert current is not None
        self.state.attempts.append(current.attempt)
        if current.attempt < attempt:
            raise ValueError(f"attempt {current.attempt}")

    @action(private=True)
    async def wait(self, text: str) -> None:
        await self.go.wait()
        self.state.fired.append(text)

    @action(private=True, exclusive=True)
    async def alone(self) -> None:
        self.state.fired.append("alone begins")
        await self.go.wait()
        self.state.fired.append("alone ends")

    @action(private=True, timeout=2)
    async def too_long(self) -> None:
        self.state.count += 1
        await asyncio.Event().wait()

    @action(private=True)
    def again(self) -> None:
        self.state.count += 1
        self.schedule.after(1_000, Alarm.again)

    @action(private=True)
    def cancel_itself(self) -> None:
        current = self.schedule.current
        assert current is not None
        self.schedule.cancel(current.id)
        self.state.count += 1
        raise ValueError("but it is gone")


class App(Registry):
    alarm = use(Alarm)
