"""How the code of one actor calls others: the inline client, behind the gate."""

from __future__ import annotations

from typing import Any

from rivet_ray.client.client import Client
from rivet_ray.client.inline import Backend, InlineTransport
from rivet_ray.protocol.caller import identity_of_actor
from rivet_ray.runtime.host import Connect
from rivet_ray.runtime.instance import Instance
from rivet_ray.runtime.turn import current_turn


class ActorTransport(InlineTransport):
    """The way out of one actor.

    A call to another actor reveals what this one has changed, so it leaves when
    that is durable, like any answer. It carries the chain of turns that wait
    for it, by which a deadlock of exclusive actions is found.
    """

    def __init__(self, backend: Backend, instance: Instance) -> None:
        super().__init__(backend)
        self._instance = instance

    async def leaving(self) -> None:
        await self._instance.durable()

    def handled(self) -> None:
        self._instance.touch()

    @property
    def identity(self) -> str:
        return identity_of_actor(self._instance.record.id)

    def chain(self) -> list[str]:
        turn = current_turn.get()
        return [] if turn is None else turn.instance.host.waits.chain_of(turn)


def between_actors(backend: Backend) -> Connect:
    """What a host needs for `self.client(App)`."""

    def connect(registry: type[Any], instance: Instance) -> Any:
        return registry(Client.over(ActorTransport(backend, instance)))

    return connect
