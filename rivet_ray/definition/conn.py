"""A connection as the code of an actor sees it."""

from __future__ import annotations

from typing import Any, Generic, Protocol, overload

from typing_extensions import TypeVar, TypeVarTuple

from rivet_ray.definition.events import Event

ConnState = TypeVar("ConnState", default=Any)
Params_co = TypeVar("Params_co", default=Any, covariant=True)
Auth_co = TypeVar("Auth_co", default=Any, covariant=True)
Payload = TypeVarTuple("Payload")


class Request(Protocol):
    """The request that opened a connection or called an action."""

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, in the order received, repeated ones kept."""
        ...

    @property
    def client(self) -> str | None:
        """The address of whoever connected to the server: of a proxy, where one stands before
        it, unless the server trusts that proxy's `X-Forwarded-For` (FORWARDED_ALLOW_IPS)."""
        ...


class Conn(Protocol, Generic[ConnState, Params_co, Auth_co]):
    """One client of an actor.

    A plain HTTP call has one too, for as long as it runs; what is sent to it
    goes nowhere.
    """

    state: ConnState

    @property
    def id(self) -> str:
        """A UUID, unique to this connection."""
        ...

    @property
    def params(self) -> Params_co:
        """What the client passed to `connect(params=…)`, or None.

        A connection that comes back after a cut keeps the parameters of its opening,
        which `on_before_connect` has seen.
        """
        ...

    @property
    def auth(self) -> Auth_co:
        """What `on_auth` returned, or None where it did not run.

        `on_auth` runs again when a connection comes back after a cut; this is what it
        returned last.
        """
        ...

    @property
    def request(self) -> Request | None:
        """The client's request, the last one of a connection that came back after a cut.

        None for calls from inside the server.
        """
        ...

    @overload
    def send(self, event: Event[*Payload], /, *args: *Payload) -> None: ...
    @overload
    def send(self, event: str, /, *args: Any) -> None: ...
    def send(self, event: Any, /, *args: Any) -> None:  # type: ignore[misc]
        """Send an event to this connection, whether it subscribed or not.

        The arguments are encoded now and leave once the state they may reveal
        is saved. Does nothing when the connection is gone.
        """
        ...

    async def disconnect(self, reason: str = "") -> None:
        """Close the connection and wait until the client's socket is closed.

        `reason` (at most 123 bytes of UTF-8) reaches the client, with close
        code 1000. `on_disconnect` runs as for any other end.
        """
        ...
