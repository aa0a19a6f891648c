"""An actor for pages, which tells who is connected to it."""

from __future__ import annotations

from rivet_ray import Actor, Event, Registry, UserError, action, use


class Desk(Actor[None]):
    public = True

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
    async def dismiss(self) -> None:
        for conn in self.conns:
            await conn.disconnect("go home")


class App(Registry):
    desk = use(Desk)
