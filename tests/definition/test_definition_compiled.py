"""An actor class is compiled when it is made: every fault is told, every type is found."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from rivet_ray import Actor, DefinitionError, Event, action
from rivet_ray.definition import compiled

if TYPE_CHECKING:
    from nowhere import Unknown


@dataclass
class Needy:
    count: int


def faults(define: Callable[[], object]) -> list[str]:
    with pytest.raises(DefinitionError) as raised:
        define()
    return raised.value.faults


# --- Faults --------------------------------------------------------------------------


def test_all_faults_of_a_class_are_told_together() -> None:
    """One edit mends them all: nobody learns of them one by one."""

    def define() -> None:
        class Wrong(Actor[Needy, "Nowhere"]):  # type: ignore[name-defined]
            id = 5  # type: ignore[assignment]
            connected = Event[int]()
            on_connect = None  # type: ignore[assignment]
            anonymous_keys = "yes"  # type: ignore[assignment]

            def caller_identity(self, auth): ...  # type: ignore

            def __init__(self) -> None: ...

            def on_auth(self, request, params, intents): ...  # type: ignore

            def save(self) -> None: ...  # type: ignore[override]

            @action
            def state(self) -> None: ...  # type: ignore[assignment]

            @action
            def _private(self) -> None: ...

            @action(name="_wire")
            def wire(self) -> None: ...

            @action(timeout=0)
            def soon(self) -> None: ...

            @action(name="soon")
            def again(self) -> None: ...

            @action
            def keyword(self, *, a: int) -> None: ...

            @action
            def types(self, a: object, b: complex) -> type: ...

            @action
            def unknown(self, a: Unknown) -> None: ...

            @action
            async def stream(self):  # type: ignore
                yield 1

            @action
            def selfless() -> None: ...  # type: ignore

    cure = "use a dataclass, a msgspec.Struct, a TypedDict, a pydantic model or plain JSON values"
    assert set(faults(define)) == {
        "__init__ cannot be defined; set attributes in on_start",
        "ConnState: name 'Nowhere' is not defined",
        "State: Needy() is no complete state (Needy.__init__() missing 1 required positional "
        "argument: 'count'); give its fields defaults or define create_state",
        "'id' is a name of Actor itself",
        "'save' is a name of Actor itself",
        "event 'connected': 'connected' is a life-cycle event of connections",
        "'on_connect' is a hook and must be a method",
        "anonymous_keys must be True or False",
        "caller_identity must be a classmethod: it runs before there is an actor",
        "on_auth must be a classmethod: it runs before there is an actor",
        "action 'state': the name is reserved by Actor",
        "action '_private': a private name cannot be an action",
        "action 'wire': '_wire' is no name that callers may use",
        "action 'soon': a timeout must be above 0 seconds",
        "action 'again': two actions are called 'soon'",
        "action 'keyword': parameter 'a' can only be given by keyword; "
        "arguments are positional on the wire",
        f"action 'types': its result: type cannot be encoded; {cure}",
        f"action 'types': parameter 'a': object cannot be encoded; {cure}",
        f"action 'types': parameter 'b': complex cannot be encoded; {cure}",
        "action 'unknown': its annotations cannot be read: name 'Unknown' is not defined",
        "action 'stream': an action returns one value; use events for streams",
        "action 'selfless': its first parameter must be the actor: self",
    }


def test_the_error_names_the_class() -> None:
    with pytest.raises(DefinitionError, match=r"^Actor .*Wrong cannot be used:\n  - "):

        class Wrong(Actor):
            id = 5  # type: ignore[assignment]


RESERVED = sorted({name for name in dir(Actor) if not name.startswith("_")} | {"state", "local"})


def test_reserved_names_are_these() -> None:
    """A new public name of Actor takes a name from users: that is a decision."""
    assert RESERVED == [
        "anonymous_keys",
        "auth",
        "broadcast",
        "caller_identity",
        "client",
        "conn",
        "connect",
        "conns",
        "create_conn_state",
        "create_state",
        "destroy",
        "destroy_after",
        "driver",
        "durability",
        "fetch",
        "id",
        "input",
        "keep_awake",
        "key",
        "local",
        "log",
        "migrate",
        "name",
        "on_auth",
        "on_before_action_response",
        "on_before_connect",
        "on_connect",
        "on_create",
        "on_disconnect",
        "on_fetch",
        "on_start",
        "on_state_change",
        "on_stop",
        "on_websocket",
        "public",
        "region",
        "resolve",
        "save",
        "save_interval",
        "schedule",
        "sleep",
        "sleep_after",
        "state",
        "state_version",
        "tags",
        "wait_until",
        "websocket",
        "with_options",
    ]


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_name_is_no_action_and_no_event(name: str) -> None:
    def work(self: Any) -> None: ...

    for kind, value in (("action", action(work)), ("event", Event[int]())):
        found = faults(lambda value=value: type("Wrong", (Actor,), {name: value}))
        assert f"{kind} {name!r}: the name is reserved by Actor" in found


@pytest.mark.parametrize("name", ["_private", "__mangled", "__dunder__", "_", "__call__"])
def test_private_names_are_no_actions(name: str) -> None:
    """C6: nobody calls `__class__` over the wire, not even by mistake."""

    def work(self: Any) -> None: ...

    found = faults(lambda: type("Wrong", (Actor,), {name: action(work)}))
    assert found == [f"action {name!r}: a private name cannot be an action"]
    for wire in (name, ""):
        found = faults(lambda wire=wire: type("Wrong", (Actor,), {"a": action(name=wire)(work)}))
        assert found == [f"action 'a': {wire!r} is no name that callers may use"]


def test_attributes_of_users_may_be_anything_else() -> None:
    class Free(Actor):
        limit = 5
        _private = 1
        __secret = 2

        class Inner: ...

    assert Free.__definition__.actions == {}


def test_init_is_refused_in_a_base_too() -> None:
    class Mixin:
        def __init__(self) -> None: ...

    assert faults(lambda: type("Wrong", (Mixin, Actor), {})) == [
        "__init__ cannot be defined; set attributes in on_start"
    ]


# --- Hooks -----------------------------------------------------------------------------


def test_the_hooks_are_those_of_actor() -> None:
    own = {
        name for name in vars(Actor) if name.startswith(("on_", "create_", "caller_", "migrate"))
    }
    assert set(compiled.HOOKS) == own
    assert all(inspect.getdoc(getattr(Actor, hook)) for hook in own)


def test_who_a_caller_is_asks_nobody() -> None:
    def define() -> None:
        class Wrong(Actor):
            @classmethod
            async def caller_identity(cls, auth: Any) -> None: ...  # type: ignore[override]

    assert faults(define) == ["caller_identity must be a plain method; ask others in on_auth"]


def test_overridden_hooks_are_known() -> None:
    class Bare(Actor): ...

    class Some(Actor):
        public = True

        @classmethod
        def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> None: ...

        async def on_start(self) -> None: ...

    class Child(Some):
        def on_connect(self, conn: Any) -> None: ...

    assert (Bare.__definition__.hooks, Bare.__definition__.public) == (frozenset(), False)
    assert Some.__definition__.hooks == {"on_auth", "on_start"}
    assert Child.__definition__.hooks == {"on_auth", "on_start", "on_connect"}
    assert Some.__definition__.public
    assert Child.__definition__.public
    assert not Some.__definition__.hooks_on_connections
    assert Child.__definition__.hooks_on_connections
