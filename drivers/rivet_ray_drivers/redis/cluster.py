"""The way to a cluster: each command to the node that owns its key's slot.

redis-py's cluster client refuses EVALSHA in a pipeline and repeats what may have
happened, so the slots are kept here. One batch is one round trip to each node
that it concerns, all nodes at once.

Sent again is only what a node has refused to do: MOVED and ASK name another
node, TRYAGAIN asks to wait until a slot has moved, NOSCRIPT wants the source.
A batch is a few of these steps at most. What was sent over a connection that
broke is unknown, and its commands fail for the caller to decide.

A node that does not answer is *down*: commands for it fail at once, so that it
holds up nobody else's, until the one task that mends our view of the cluster
has heard from it, or from the others that its slots have another owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from redis import exceptions

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray_drivers.redis import connection
from rivet_ray_drivers.redis.connection import Command, Node, RedisConnection, Reply
from rivet_ray_drivers.redis.failures import failure_of
from rivet_ray_drivers.redis.location import Address, Location
from rivet_ray_drivers.redis.slots import SlotMap, redirected, slot_of

log = logging.getLogger("rivet_ray.drivers.redis")

REDIRECTIONS = 5
"""How often a command is sent on; more say that the nodes do not agree."""
PATIENCE = 5.0
"""Seconds for a slot to finish its move, during which Redis refuses scripts over it."""
SHORT_PATIENCE = 0.2
"""The same for commands that the caller repeats, while others wait for the batch."""
TRY_AGAIN_AFTER = 0.02
MEND_TIMEOUT = 1.0
MEND_EVERY = 0.1

NON_LOCAL = "non local key"
"""What Redis says when a script finds a key of its slot gone to another node."""


@dataclass(slots=True)
class _Errand:
    """A command on its way, and what came of it."""

    command: Command
    slot: int
    node: Address | None
    asking: bool = False
    source: bool = False
    redirections: int = 0
    reply: Reply = None


class ClusterConnection(RedisConnection):
    """A bounded pool of connections to each node of one cluster, on one event loop."""

    def __init__(self, place: Location) -> None:
        super().__init__(place)
        self._nodes: dict[Address, Node] = {}
        self._slots = SlotMap()
        self._down: dict[Address, StoreError] = {}
        self._outdated = False
        self._mending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Learn who owns which slots; a node that is down is no hindrance."""
        with self._admitted():
            await self._refresh()

    async def batch(self, commands: Sequence[Command]) -> list[Reply]:
        replies = await self._settled(commands, PATIENCE)
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    async def answers(self, commands: Sequence[Command]) -> list[Reply | StoreError]:
        """The reply to each, or what it failed with, whatever became of others."""
        return await self._settled(commands, SHORT_PATIENCE)

    @property
    def servers(self) -> list[Node]:
        return [self._node_at(address) for address in self._slots.nodes()]

    def server_of(self, key: bytes) -> Address | None:
        return self._slots.owner(slot_of(key))

    async def _settled(self, commands: Sequence[Command], patience: float) -> list[Reply]:
        clock = asyncio.get_running_loop().time
        started = clock()
        errands = [self._errand(command) for command in commands]
        left = errands
        with self._admitted():
            while left and (remaining := started + connection.BATCH_TIMEOUT - clock()) > 0:
                await self._send(left, remaining)
                left = [
                    errand
                    for errand in left
                    if isinstance(errand.reply, Exception) and self._goes_on(errand)
                ]
                if left and all(_must_wait(errand.reply) for errand in left):
                    if clock() - started > patience:
                        break
                    await asyncio.sleep(TRY_AGAIN_AFTER)
        return [
            self._outcome(errand) if isinstance(errand.reply, Exception) else errand.reply
            for errand in errands
        ]

    def _errand(self, command: Command) -> _Errand:
        """The first key is behind the name of a command, or behind the number of keys."""
        key = command.arguments[1]
        if not isinstance(key, bytes):
            raise TypeError(f"{key!r} is no key")
        slot = slot_of(key)
        return _Errand(command, slot, self._slots.owner(slot))

    async def _send(self, errands: Sequence[_Errand], timeout: float) -> None:
        groups: dict[Address | None, list[_Errand]] = {}
        for errand in errands:
            groups.setdefault(errand.node, []).append(errand)
        if len(groups) == 1:
            for address, group in groups.items():
                await self._ask(address, group, timeout)
        else:
            await asyncio.gather(
                *(self._ask(address, group, timeout) for address, group in groups.items())
            )

    async def _ask(
        self, address: Address | None, errands: Sequence[_Errand], timeout: float
    ) -> None:
        """Give each errand its reply, from one exchange with one node."""
        try:
            replies = await self._replies_of(address, errands, timeout)
        except StoreUnavailable as error:
            self._is_down(address, error)
            replies = [error] * len(errands)
        except StoreError as error:  # of ours: what cannot be sent
            replies = [error] * len(errands)
        for errand, reply in zip(errands, replies, strict=True):
            errand.reply = reply

    async def _replies_of(
        self, address: Address | None, errands: Sequence[_Errand], timeout: float
    ) -> list[Reply]:
        if address is None:
            raise StoreUnavailable(f"Redis at {self.place} has no owner of some slots.")
        if down := self._down.get(address):
            raise StoreUnavailable(str(down)) from down
        commands = [errand.command.packed(errand.source) for errand in errands]
        if not any(errand.asking for errand in errands):
            return await self._exchange(self._node_at(address), commands, timeout)
        asked = [part for command in commands for part in ((b"ASKING",), command)]
        return (await self._exchange(self._node_at(address), asked, timeout))[1::2]

    def _goes_on(self, errand: _Errand) -> bool:
        """Whether there is a next step after an error; the errand is made ready for it."""
        node, reply = errand.node, errand.reply
        match reply:
            case exceptions.NoScriptError() if not errand.source:
                errand.source = True
            case exceptions.MovedError() if node is not None:
                errand.node, errand.asking = redirected(reply, node), False
                self._slots.moved(errand.slot, errand.node)
                self._outdated = True
                self._mend()
                return self._is_sent_on(errand)
            case exceptions.AskError() if node is not None:
                errand.node, errand.asking = redirected(reply, node), True
                return self._is_sent_on(errand)
            case exceptions.ClusterDownError():
                self._outdated = True
                self._mend()
                return False
            case _ if _must_wait(reply):
                errand.node, errand.asking = self._slots.owner(errand.slot), False
                errand.redirections = 0
            case _:
                return False
        return True

    @staticmethod
    def _is_sent_on(errand: _Errand) -> bool:
        errand.redirections += 1
        return errand.redirections <= REDIRECTIONS

    def _outcome(self, errand: _Errand) -> Reply:
        reply = errand.reply
        match reply:
            case exceptions.AskError():
                return StoreUnavailable(
                    f"Redis at {self.place} refuses: its nodes do not agree on an owner of"
                    f" slot {errand.slot}."
                )
            case Exception() if _must_wait(reply):
                moving = exceptions.ResponseError("TRYAGAIN")
                return failure_of(moving, self._place_of(errand.node))
            case Exception() if not isinstance(reply, StoreError):
                return failure_of(reply, self._place_of(errand.node))
            case _:
                return reply

    def _place_of(self, address: Address | None) -> Location:
        return self.place if address is None else self.place.at(address)

    # --- Our view of the cluster ------------------------------------------------

    def _node_at(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(self.place.at(address))
        return node

    async def _refresh(self) -> None:
        """Ask one node after the other for the owners of the slots, until one knows.

        Raises what the first of them failed with when none does.
        """
        failures: list[StoreError] = []
        candidates = [*self._slots.nodes(), *self._nodes, *self.place.addresses]
        for address in sorted(dict.fromkeys(candidates), key=self._down.__contains__):
            try:
                await self._read_slots(address)
                return
            except StoreError as error:
                failures.append(error)
        raise failures[0]

    async def _read_slots(self, address: Address) -> None:
        node = self._node_at(address)
        (reply,) = await self._exchange(node, [(b"CLUSTER", b"SLOTS")], MEND_TIMEOUT)
        if isinstance(reply, Exception):
            if "cluster support disabled" in str(reply):
                raise StoreError(f"Redis at {node.place} is no cluster: write redis://.")
            raise failure_of(reply, node.place) from reply
        if not self._slots.read(reply, address):
            raise StoreUnavailable(f"Redis at {node.place} knows no owner of any slot.")

    def _is_down(self, address: Address | None, error: StoreUnavailable) -> None:
        if address is not None and address not in self._down:
            log.warning("a node of the cluster is down: %s", error)
            self._down[address] = error
        self._mend()

    def _mend(self) -> None:
        if not self._closing and (self._mending is None or self._mending.done()):
            self._mending = asyncio.get_running_loop().create_task(self._mend_until_whole())

    async def _mend_until_whole(self) -> None:
        """Until every node that is to answer has, and the owners of the slots are known."""
        while True:
            self._outdated = False
            try:
                await self._refresh()
            except StoreError as error:
                self._outdated = True
                log.debug("the owners of slots are not known: %s", error)
            await self._forget_nodes()
            await asyncio.gather(*map(self._try_again, list(self._down)))
            if not self._down and not self._outdated:
                return
            await asyncio.sleep(MEND_EVERY)

    async def _forget_nodes(self) -> None:
        """Let go of nodes that own no slot any more."""
        owners = set(self._slots.nodes())
        for address in self._down.keys() - owners:
            del self._down[address]
        for address, node in list(self._nodes.items()):
            if address not in owners and not node.under_way:
                del self._nodes[address]
                await node.disconnect()

    async def _try_again(self, address: Address) -> None:
        node = self._node_at(address)
        try:
            (reply,) = await self._exchange(node, [(b"PING",)], MEND_TIMEOUT)
        except StoreError as error:
            self._down[address] = error
            return
        if not isinstance(reply, Exception) and address in self._down:
            del self._down[address]
            log.warning("a node of the cluster answers again: %s", node.place)

    async def _disconnect(self) -> None:
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait([self._mending])
        for node in self._nodes.values():
            await node.disconnect()


def _must_wait(reply: Reply) -> bool:
    """Whether a slot is on its way from one node to another."""
    return isinstance(reply, exceptions.TryAgainError) or (
        isinstance(reply, exceptions.ResponseError) and NON_LOCAL in str(reply)
    )
