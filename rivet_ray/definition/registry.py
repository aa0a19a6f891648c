"""The registry: which actor types there are, and under which names."""

from __future__ import annotations

from inspect import getattr_static
from typing import Any, ClassVar, Generic, cast, overload

from typing_extensions import TypeVar

from rivet_ray.definition.actor import Actor
from rivet_ray.definition.compiled import ActorDefinition
from rivet_ray.definition.names import name_fault
from rivet_ray.definition.remote import ActorAccessor, Caller
from rivet_ray.errors import DefinitionError

ActorT = TypeVar("ActorT", bound=Actor[Any, Any, Any, Any, Any])


class Use(Generic[ActorT]):
    """An actor type's place in a registry; on a client, the way to its actors."""

    def __init__(self, actor: type[ActorT], name: str | None = None) -> None:
        self.actor = actor
        self.name = name or ""

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.name = self.name or attribute

    @overload
    def __get__(self, instance: None, owner: type) -> Use[ActorT]: ...
    @overload
    def __get__(self, instance: ActorRegistry, owner: type) -> ActorAccessor[ActorT]: ...
    def __get__(
        self, instance: ActorRegistry | None, owner: type
    ) -> Use[ActorT] | ActorAccessor[ActorT]:
        if instance is None:
            return self
        return instance._caller.accessor(self.name, self.actor)


def use(actor: type[ActorT], *, name: str | None = None) -> Use[ActorT]:
    """Register an actor type under the attribute's name, or under `name`."""
    return Use(actor, name)


class ActorRegistry:
    """Base of registries: a class lists the actor types, an instance is a client.

    class App(Registry):
        counter = use(Counter)
        room = use(ChatRoom, name="chatRoom")
    """

    __uses__: ClassVar[dict[str, Use[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        faults: list[str] = []
        uses: dict[str, Use[Any]] = {}
        for base in cls.__bases__:
            inherited: dict[str, Use[Any]] = getattr(base, "__uses__", {})
            for name, used in inherited.items():
                if name in uses and uses[name].actor is not used.actor:
                    faults.append(f"two actor types are called {name!r}")
                uses[name] = used
        for attribute, value in vars(cls).items():
            if not isinstance(value, Use):
                continue
            used = cast("Use[Any]", value)
            given = cast("object", used.actor)
            known = [getattr_static(base, attribute, None) for base in cls.__bases__]
            if any(found is not None and not isinstance(found, Use) for found in known):
                faults.append(f"{attribute!r} is a name of Registry itself")
            if not (isinstance(given, type) and issubclass(given, Actor) and given is not Actor):
                faults.append(f"{attribute!r} is no subclass of Actor")
            elif used.name in uses:
                faults.append(f"two actor types are called {used.name!r}")
            elif fault := name_fault(used.name):
                faults.append(f"{attribute!r}: {fault}")
            uses[used.name] = used
        if faults:
            raise DefinitionError(f"Registry {cls.__qualname__}", faults)
        cls.__uses__ = uses

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @classmethod
    def definitions(cls) -> dict[str, ActorDefinition]:
        """The actor types by their names."""
        return {name: used.actor.__definition__ for name, used in cls.__uses__.items()}
