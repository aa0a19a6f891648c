"""How an instance leaves memory in good order: to sleep, with its host, or for good."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rivet_ray.definition.user_code import settle
from rivet_ray.errors import RivetError
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.checkpointer import unconfirmed
from rivet_ray.runtime.deadline import CANCELLED, ended, within
from rivet_ray.runtime.lifecycle import Move, State, after
from rivet_ray.runtime.turn import Turn

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance

log = logger_of_strangers("rivet_ray.runtime")

GOING_AWAY = 1001
LAST_SAVE = 25.0
"""Seconds for the last save: the write before it and its own may each be given up first."""


class Leaving:
    """The end of one instance."""

    __slots__ = ("_destroy_asked", "_instance", "destroying", "in_last_hook")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._destroy_asked = False
        self.destroying = False
        """The next write ends the actor."""
        self.in_last_hook = False
        """`on_stop` runs before a destroy: nothing is saved any more, or waited for."""

    @property
    def destroy_ahead(self) -> bool:
        """A destroy was asked for, and is not the next write yet."""
        return self._destroy_asked and not self.destroying

    # --- Stop ---------------------------------------------------------------

    def begin_stop(self) -> None:
        """From now on no call begins here; `stop` does the rest."""
        self._instance.state = after(self._instance.state, Move.STOP)

    async def stop(self, turns: float, hook: float) -> None:
        """Let turns finish for up to `turns` seconds, run `on_stop`, save, and leave memory.

        `begin_stop` was called before. `on_stop` has `hook` seconds. What does not end when
        it is cancelled is left to itself. Who still is connected is told to go.
        """
        instance = self._instance
        try:
            instance.exchanges.stop()
            await instance.wait_tasks(turns)
            if "on_stop" in instance.definition.hooks:
                await self._on_stop(hook)
            instance.cancel_tasks()
            await instance.wait_tasks(CANCELLED)
            instance.actions.give_up()
            instance.connections.close_all(GOING_AWAY, "server_stopping")
            with suppress(RivetError):
                async with within(instance.clock, LAST_SAVE, "its last save"):
                    await instance.durable()
        except TimeoutError as error:
            log.error(
                "%r leaves memory, and what it has changed may not be saved: %s", instance, error
            )
            instance.give_up(unconfirmed())
        except Exception:
            log.exception("%r could not stop in good order", instance, extra=REPEATED)
        finally:
            if instance.state is State.STOPPING:
                instance.leave(Move.STOPPED)

    async def _on_stop(self, seconds: float) -> None:
        instance = self._instance

        async def hook() -> None:
            self.in_last_hook = self._destroy_asked
            with instance.block(Turn(instance)):
                try:
                    await settle(instance, instance.actor.on_stop)
                except Exception:
                    log.exception("%r: on_stop failed", instance, extra=REPEATED)
                finally:
                    self.in_last_hook = False

        if await ended(instance.clock, [instance.own(hook())], seconds):
            log.warning(
                "%r: on_stop took longer than %g s; it is cut off",
                instance,
                seconds,
                extra=REPEATED,
            )

    # --- Destroy --------------------------------------------------------------

    def destroy(self) -> None:
        """End the actor for good; what is held leaves when the store has confirmed it."""
        if self._destroy_asked:
            return
        self._destroy_asked = True
        if self._instance.state is State.RUNNING:
            self._begin_destroy()
        elif self._instance.state is State.STOPPING:
            self._destroy_now()  # With the last write of the stop.

    def destroy_if_asked(self) -> bool:
        """At the end of the start: whether a hook has asked for the end already."""
        if self._destroy_asked:
            self._begin_destroy()
        return self._destroy_asked

    def _begin_destroy(self) -> None:
        instance = self._instance
        self.begin_stop()
        instance.cancel_tasks()
        if "on_stop" in instance.definition.hooks:
            instance.own(self._destroy_after_hook())
        else:
            self._destroy_now()

    async def _destroy_after_hook(self) -> None:
        await self._on_stop(self._instance.host.settings.stop_grace)
        self._destroy_now()

    def _destroy_now(self) -> None:
        self.destroying = True
        self._instance.touch()
