"""`@action`: a method that clients and other actors may call."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Protocol, cast, overload

from typing_extensions import ParamSpec, TypeVar

if TYPE_CHECKING:
    from rivet_ray.definition.actor import Actor

ActorT = TypeVar("ActorT", bound="Actor[Any, Any, Any, Any, Any]")
ActorT_contra = TypeVar("ActorT_contra", bound="Actor[Any, Any, Any, Any, Any]", contravariant=True)
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Local = TypeVar("Local")
Local_co = TypeVar("Local_co", covariant=True)


class BoundAction(Protocol[P, R_co, Local_co]):
    """An action of one actor: awaited it runs there, wherever that is."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Run the action on its actor and return what it returns.

        On a handle this is a call over the wire; inside the actor itself it is
        an ordinary call in the same turn.
        """
        ...

    def local(self, *args: P.args, **kwargs: P.kwargs) -> Local_co:
        """Inside the actor: call the method itself, in the same turn.

        Awaitable if and only if the method is asynchronous.
        """
        ...


class LocalAction:
    """An action seen from inside its own actor."""

    __slots__ = ("_actor", "_function")

    def __init__(self, function: Callable[..., Any], actor: Any) -> None:
        self._function = function
        self._actor = actor

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result: Any = self._function(self._actor, *args, **kwargs)
        if isawaitable(result):
            result = await result
        return result

    def local(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self._actor, *args, **kwargs)


class Action(Generic[ActorT_contra, P, R, Local]):
    """An action with two faces.

    On the class it is a typed reference (`Counter.increment`), on an actor or a
    handle a typed coroutine function (`await counter.increment(5)`).
    """

    def __init__(
        self,
        function: Callable[Concatenate[ActorT_contra, P], Local],
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        private: bool = False,
        exclusive: bool = False,
        readonly: bool = False,
    ) -> None:
        self.private = private
        self.exclusive = exclusive
        self.readonly = readonly
        self.function: Callable[..., Any] = function
        self.attribute: str = function.__name__
        self.name: str = name if name is not None else function.__name__
        self.owner: type | None = None
        """The class that defines the action; not one that gives it a second name."""
        self.hints: dict[str, Any] | None = None
        """The annotations, once read where they were written."""
        self._given_name = name
        self.timeout: float | None = (
            timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        )
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        if self.owner is None:
            self.owner = owner
            self.name = name if self._given_name is None else self._given_name
            self.attribute = name

    @overload
    def __get__(self, instance: None, owner: type) -> Action[ActorT_contra, P, R, Local]: ...
    @overload
    def __get__(self, instance: ActorT_contra, owner: type) -> BoundAction[P, R, Local]: ...
    def __get__(
        self, instance: ActorT_contra | None, owner: type
    ) -> Action[ActorT_contra, P, R, Local] | BoundAction[P, R, Local]:
        if instance is None:
            return self
        return cast("BoundAction[P, R, Local]", LocalAction(self.function, instance))

    def __repr__(self) -> str:
        return f"<action {self.name}>"


class ActionDecorator(Protocol):
    """What `@action(...)` with options returns."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[ActorT, P], Coroutine[Any, Any, R]], /
    ) -> Action[ActorT, P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[ActorT, P], R], /
    ) -> Action[ActorT, P, R, R]: ...


@overload
def action(
    function: Callable[Concatenate[ActorT, P], Coroutine[Any, Any, R]], /
) -> Action[ActorT, P, R, Coroutine[Any, Any, R]]: ...
@overload
def action(function: Callable[Concatenate[ActorT, P], R], /) -> Action[ActorT, P, R, R]: ...
@overload
def action(
    *,
    name: str | None = None,
    timeout: float | timedelta | None = None,
    private: bool = False,
    exclusive: bool = False,
    readonly: bool = False,
) -> ActionDecorator: ...
def action(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | timedelta | None = None,
    private: bool = False,
    exclusive: bool = False,
    readonly: bool = False,
) -> Any:
    """Make a method callable from outside.

    `name` is its name on the wire, the method's own by default. `timeout` is
    its deadline in seconds, the host's (60 s) by default. `private` keeps
    callers out: only the actor's own schedule may call it. While an `exclusive`
    action runs, no other action of the actor does: it is linearizable over its
    awaits too. A `readonly` action must not change the state, and its answer
    does not wait for anybody's write unless it may show one; if it does change
    it, it fails, and what a plain method changed is undone.

    Arguments are checked against the annotations before the method runs; they
    are positional on the wire.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        return Action[Any, ..., Any, Any](
            function,
            name=name,
            timeout=timeout,
            private=private,
            exclusive=exclusive,
            readonly=readonly,
        )

    return decorate if function is None else decorate(function)
