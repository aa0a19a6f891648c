"""The life of one instance, as a table.

An instance is an actor in memory. It is born when somebody needs the actor,
serves turns, and leaves memory again: because the host closes, because another
owner has claimed the actor, or because a write could not be resolved.

    starting --started--> running --stop--> stopping --stopped--> stopped
        |                    |                 |
        +-------- break -----+-----------------+----------------> stopped

`starting`  create_state, on_create and on_start run; calls wait in the host.
`running`   turns begin at once.
`stopping`  no turn begins; those that run may finish, their writes are flushed.
`stopped`   nothing happens any more; whatever waited has been told so.

A move that is not in the table is a fault of the runtime, and raises KeyError.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Move(Enum):
    STARTED = "started"
    STOP = "stop"
    STOPPED = "stopped"
    BREAK = "break"


_TABLE: dict[tuple[State, Move], State] = {
    (State.STARTING, Move.STARTED): State.RUNNING,
    (State.RUNNING, Move.STOP): State.STOPPING,
    (State.STOPPING, Move.STOPPED): State.STOPPED,
    (State.STARTING, Move.BREAK): State.STOPPED,
    (State.RUNNING, Move.BREAK): State.STOPPED,
    (State.STOPPING, Move.BREAK): State.STOPPED,
    (State.STOPPED, Move.BREAK): State.STOPPED,
}


def after(state: State, move: Move) -> State:
    """The state that a move leads to."""
    return _TABLE[state, move]
