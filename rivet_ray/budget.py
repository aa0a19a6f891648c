"""Bounds on the bytes that a process holds for somebody.

A `Budget` is one bound: of a connection, a caller, an actor or the process. What
counts against a budget counts against the budgets above it too, so the queues and
tables of one party share its bound, and all parties together share the bound of
the process. A party takes bytes before it keeps something and gives them back when
that has left; what does not fit is not kept.

    process = Budget("process", 256 * MIB)
    caller = Budget("caller", 16 * MIB, process)
    connection = Budget("connection", MIB, caller)

    connection.take(len(message))       # raises Overloaded: nothing was taken
    ...
    connection.give_back(len(message))

What is refused is counted by the name of the bound, for a whole tree of budgets:
`process.refusals` is `{"connection": 3}`. Budgets belong to one event loop.
"""

from __future__ import annotations

from rivet_ray.errors import Outcome, Overloaded

KIB = 1_024
MIB = 1_024 * KIB


TEXT = 80
"""Bytes that a text takes beside its characters, at the most."""


def size_of_text(text: str | None) -> int:
    """Bytes that a text takes at the most: the same whenever it is asked.

    What `sys.getsizeof` says grows once a text that is not ASCII was encoded, and so would
    give back more than was taken.
    """
    if text is None:
        return 0
    return TEXT + (len(text) if text.isascii() else 8 * len(text))


class Budget:
    """A bound on the bytes held for one party, and for those below it.

    `name` says whose bound it is; errors and counters name it. `limit` is in bytes.
    """

    __slots__ = ("__weakref__", "_bounds", "held", "limit", "name", "peak", "refusals", "refused")

    def __init__(self, name: str, limit: int, *above: Budget) -> None:
        self.name = name
        self.limit = limit
        self.held = 0
        """Bytes that are held now."""
        self.peak = 0
        """The most bytes that were held at once."""
        self.refused = 0
        """How often something was not kept because of this bound."""
        self.refusals: dict[str, int] = above[0].refusals if above else {}
        """How often something was not kept, by name of the bound; shared by the whole tree."""
        bounds: dict[Budget, None] = {self: None}
        for budget in above:
            bounds.update(dict.fromkeys(budget._bounds))
        self._bounds: tuple[Budget, ...] = tuple(bounds)

    def __repr__(self) -> str:
        return f"<budget of a {self.name}: {self.held} of {self.limit} bytes>"

    def exceeded(self, size: int, own: int | None = None) -> Budget | None:
        """Return the first bound that `size` more bytes would exceed, or None.

        With `own`, which is how many of the bytes the one who asks holds already, a bound
        under which nobody else holds anything is not exceeded.
        """
        for budget in self._bounds:
            if budget.held + size > budget.limit and (own is None or budget.held > own):
                return budget
        return None

    def fits(self, size: int) -> bool:
        """Take `size` bytes if no bound is exceeded; return whether they were taken."""
        exceeded = self.exceeded(size)
        if exceeded is not None:
            exceeded.refuse()
            return False
        self.hold(size)
        return True

    def hold(self, size: int) -> None:
        """Count bytes that are there already, whatever the bounds say."""
        for budget in self._bounds:
            budget.held += size
            if budget.held > budget.peak:
                budget.peak = budget.held

    def refuse(self, name: str | None = None) -> None:
        """Count that something is not kept because of this bound, or of another one's name."""
        name = name or self.name
        self.refused += 1
        self.refusals[name] = self.refusals.get(name, 0) + 1

    def below(self, other: Budget) -> bool:
        """Whether what counts here counts against `other` too."""
        return other in self._bounds

    def check(self, size: int) -> None:
        """Raise Overloaded, as not started, if `size` more bytes exceed a bound."""
        exceeded = self.exceeded(size)
        if exceeded is not None:
            exceeded.refuse()
            raise Overloaded(
                f"Too much waits for this {exceeded.name}: at most {exceeded.limit} bytes. "
                "Try again later.",
                outcome=Outcome.NOT_STARTED,
            )

    def take(self, size: int) -> None:
        """Take `size` bytes. Raises Overloaded, as not started, if a bound is exceeded."""
        self.check(size)
        self.hold(size)

    def give_back(self, size: int) -> None:
        """Give back bytes that were taken; they are held no longer."""
        for budget in self._bounds:
            budget.held -= size

    def end(self) -> None:
        """Give back everything. Nothing is counted from now on.

        For a budget without others below it, whose party is gone.
        """
        self.give_back(self.held)
        self._bounds = ()
