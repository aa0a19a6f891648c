"""What a client that follows a host keeps: calls without an answer, and connections."""

from __future__ import annotations

from dataclasses import dataclass

from rivet_ray.budget import Budget
from rivet_ray.clock import Timer
from rivet_ray.errors import Outcome
from rivet_ray.protocol.port import Attach, Call, Forward
from rivet_ray.protocol.raw import RawOpen


@dataclass(slots=True, eq=False)
class Waiting:
    """A call without an answer."""

    call: Call | Forward | RawOpen
    until: float
    """Monotonic time of its deadline."""
    budget: Budget
    """Holds its bytes until it is answered."""
    size: int
    sent: bool = False
    lost: bool = False
    """It was sent once, and what became of it is unknown."""
    timer: Timer | None = None
    """Runs while the call has no session to go out on."""

    @property
    def outcome(self) -> Outcome:
        """What is known of it, as long as nobody has answered."""
        return Outcome.UNKNOWN if self.lost else Outcome.NOT_STARTED

    def end(self) -> None:
        """It is answered, or given up."""
        self.budget.give_back(self.size)
        if self.timer is not None:
            self.timer.cancel()


@dataclass(slots=True, eq=False)
class Followed:
    """A connection that a client holds."""

    attach: Attach
    until: float
    """Monotonic time by which it has to be open for the first time."""
    budget: Budget
    """Of its caller; holds its bytes until it is open."""
    size: int
    timer: Timer | None = None
    """Runs until then."""
    open: bool = False
    """Attached once, so that it can be resumed."""
    away: bool = True
    """Its host does not have it now."""
    seen: int = 0
    """The last event of its actor that came, or that was before it."""

    def settle(self) -> None:
        """It waits no longer: it is open, or was given up."""
        size, self.size = self.size, 0
        self.budget.give_back(size)

    def stop(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
