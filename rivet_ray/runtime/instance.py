"""An instance: one actor, alive in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from rivet_ray import ids
from rivet_ray.clock import Clock
from rivet_ray.definition import ActorDefinition, bind
from rivet_ray.errors import RivetError
from rivet_ray.protocol import values
from rivet_ray.runtime.actions import Actions
from rivet_ray.runtime.checkpoint import Checkpoint
from rivet_ray.runtime.connections import Connections
from rivet_ray.runtime.context import Context
from rivet_ray.runtime.gate import Release
from rivet_ray.runtime.lifecycle import Move, State, after
from rivet_ray.runtime.turn import Turn, running, settled
from rivet_ray.store import Claim

if TYPE_CHECKING:
    from rivet_ray.runtime.host import Host

log = logging.getLogger("rivet_ray.runtime")

CREATED = "created"
"""The part that says that `create_state` and `on_create` have run."""
FIELD = "state/"
"""The prefix of the parts that hold the state's fields."""
GOING_AWAY = 1001
INTERNAL = 1011


class Instance:
    """The runtime's half of a living actor; `actor` is the user's half."""

    __slots__ = (
        "_host",
        "_tasks",
        "actions",
        "actor",
        "checkpoint",
        "connections",
        "context",
        "definition",
        "record",
        "state",
    )

    def __init__(self, host: Host, definition: ActorDefinition, claim: Claim) -> None:
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self.definition = definition
        self.record = claim.record
        self.state = State.STARTING
        self.checkpoint = Checkpoint(claim, self._split)
        self.connections = Connections(self)
        self.actions = Actions(self)
        self.context = Context(self)
        self.actor: Any = object.__new__(definition.actor)
        bind(self.actor, self.context)

    def __repr__(self) -> str:
        return f"<{self.record.name} {ids.escape_key(self.record.key)!r} {self.record.id}>"

    @property
    def clock(self) -> Clock:
        return self._host.clock

    @property
    def action_timeout(self) -> float:
        """Seconds, for actions that do not set their own."""
        return self._host.settings.action_timeout

    @property
    def hook_timeout(self) -> float:
        """Seconds, for each hook of a connection."""
        return self._host.settings.hook_timeout

    # --- Writing ----------------------------------------------------------

    def _split(self) -> dict[str, bytes]:
        fields = self.definition.state.split(self.actor.state)
        parts = {FIELD + name: value for name, value in fields.items()}
        parts[CREATED] = values.NULL
        return parts

    def touch(self) -> None:
        """Have the state looked at: something ran that may have changed it."""
        if self.state in (State.RUNNING, State.STOPPING):
            self._host.checkpointer.touch(self)

    def hold(self, release: Release) -> None:
        """Give something away as soon as what it reveals is durable.

        While the actor starts, everything waits for its first look.
        """
        self.checkpoint.gate.hold(release)
        self.touch()

    def give_up(self, error: RivetError) -> None:
        """Break the gate with `error` and leave memory at once."""
        self.state = after(self.state, Move.BREAK)
        self._host.forget(self)
        for task in tuple(self._tasks):
            task.cancel()
        if not error.public:
            log.error("%r stops: %s", self, error)
        self.checkpoint.gate.break_with(error)
        reason = error.code if error.public else "internal_error"
        # Behind the cancelled tasks, so that their callers hear of the outcome first.
        asyncio.get_running_loop().call_soon(self.connections.close_all, INTERNAL, reason)

    # --- Life -------------------------------------------------------------

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with the instance at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def start(self, claim: Claim) -> None:
        """Load or create the state and run the hooks that come before any call.

        Raises what the hooks raise; nothing of the actor is saved then.
        """
        hooks = self.definition.hooks
        if self.record.input is not None or CREATED not in claim.parts:
            self.context.input = self.definition.decode("Input", self.record.input)
        with running(Turn(self)):
            if CREATED in claim.parts:
                fields = {
                    name.removeprefix(FIELD): value
                    for name, value in claim.parts.items()
                    if name.startswith(FIELD)
                }
                self.actor.state = self.definition.state.join(fields)
            else:
                self.actor.state = await settled(self.actor.create_state(self.context.input))
                if "on_create" in hooks:
                    await settled(self.actor.on_create(self.context.input))
            if "on_start" in hooks:
                await settled(self.actor.on_start())
        self.state = after(self.state, Move.STARTED)
        self.touch()

    async def stop(self, grace: float) -> None:
        """Let turns finish for up to `grace` seconds, save, and leave memory."""
        self.state = after(self.state, Move.STOP)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in tuple(self._tasks):
            task.cancel()
        self.connections.close_all(GOING_AWAY, "server_stopping")
        self.touch()
        await self._host.checkpointer.flush()
        if self.state is State.STOPPING:
            self.state = after(self.state, Move.STOPPED)
            self._host.forget(self)
