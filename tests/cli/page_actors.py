"""An actor for pages, which tells who is connected to it."""

from __future__ import annotations

from typing import Any

from rivet_ray import Actor, Event, Registry, Unauthorized, UserError, action, use


class Desk(Actor[None]):
    public = True
    anonymous_keys = True

    shouted = Event[str, int]()

    @action
    def present(self) -> int:
        return len(self.conns)

    @action
    def refuse(self) -> None:
        raise UserError("Not today.", code="closed", metadata={"until": "noon"})

    @action
    def shout(self, text: str, times: int) -> str:
        for number in range(times):
            self.broadcast(Desk.shouted, text, number)
        return text.upper()

    @action
    def repeat(self, text: str, times: int) -> str:
        return text * times

    @action
    async def dismiss(self) -> None:
        for conn in self.conns:
            await conn.disconnect("go home")


class Door(Actor[None, None, dict[str, str]]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: Any) -> None:
        if not params["token"].startswith("fresh"):
            raise Unauthorized("This token has expired.")

    @action
    def size(self, text: str) -> int:
        return len(text)

    @action
    def token(self) -> str:
        assert self.conn.params is not None
        return self.conn.params["token"]


class App(Registry):
    desk = use(Desk)
    door = use(Door)
