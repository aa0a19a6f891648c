"""Handles: what they offer, and what they say about what they do not."""

from __future__ import annotations

import contextlib
import copy
from typing import Any, cast

import pytest
from client_servers import Counter

from rivet_ray import Actor, action
from rivet_ray.client import Client
from rivet_ray.client.transport import ConnectionTransport
from rivet_ray.protocol import values
from rivet_ray.protocol.queries import ActorQuery, GetOrCreate


class Recorder:
    """A transport that writes down what it was asked, and answers with it."""

    def __init__(self) -> None:
        self.calls: list[tuple[ActorQuery, str, Any, Any, float]] = []
        self.keys: list[str | None] = []
        self.closed = False

    async def resolve(self, query: ActorQuery, params: Any) -> str:
        return "42"

    async def call(
        self,
        query: ActorQuery,
        action: str,
        arguments: bytes,
        params: Any,
        timeout: float,
        key: str | None,
    ) -> bytes | None:
        self.keys.append(key)
        self.calls.append((query, action, values.decode(arguments), params, timeout))
        return None

    def connect(self, query: ActorQuery, params: Any) -> ConnectionTransport:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def transport() -> Recorder:
    return Recorder()


@pytest.fixture
def client(transport: Recorder) -> Client:
    return Client.over(transport, timeout=3)


@pytest.fixture
def handle(client: Client) -> Counter:
    return client.accessor("counter", Counter).get_or_create("k", params={"a": 1})


async def test_a_client_goes_over_any_transport(transport: Recorder, handle: Counter) -> None:
    await handle.where("me", offset=7)
    query = GetOrCreate("counter", ["k"])
    assert transport.calls == [(query, "whereIs", ["me", 1, 7], {"a": 1}, 3)]


async def test_a_client_closes_its_transport(transport: Recorder, client: Client) -> None:
    async with client:
        pass
    assert transport.closed


def test_accessors_are_made_once(client: Client) -> None:
    assert client.accessor("counter", Counter) is client.accessor("counter", Counter)


async def test_arguments_are_encoded_when_they_are_given(
    client: Client, transport: Recorder
) -> None:
    given = ["a"]
    call = client.actor("counter", "k").call("keep", given)
    given.append("b")
    await call
    assert transport.calls[0][2] == [["a"]]


def test_wrong_arguments_are_a_type_error_at_the_call(handle: Counter) -> None:
    anything = cast("Any", handle)
    with pytest.raises(TypeError, match=r"Counter\.increment: too many positional"):
        anything.increment(1, 2)
    with pytest.raises(TypeError, match=r"Counter\.where: missing .* 'name'"):
        anything.where()
    with pytest.raises(TypeError, match="object cannot be saved or sent"):
        anything.increment(object())


def test_what_lives_in_the_actor_is_not_on_the_handle(handle: Counter) -> None:
    for name in ("state", "broadcast", "on_start", "_secret", "helper", "conns", "id", "public"):
        with pytest.raises(AttributeError) as caught:
            getattr(handle, name)
        assert str(caught.value) == (
            f"Counter.{name} lives in the actor; "
            "a handle can only call its actions: increment, where, reset"
        )


def test_an_unknown_name_lists_the_actions(handle: Counter) -> None:
    with pytest.raises(AttributeError, match="no action 'incremnt'; its actions: increment, where"):
        cast("Any", handle).incremnt(1)


def test_an_event_says_where_it_belongs(handle: Counter) -> None:
    with pytest.raises(AttributeError, match=r"conn\.on\(Counter\.new_count, handler\)"):
        _ = handle.new_count


def test_local_is_for_inside(handle: Counter) -> None:
    with pytest.raises(AttributeError, match="inside the actor only"):
        handle.increment.local(1)


def test_a_handle_cannot_be_changed(handle: Counter) -> None:
    with pytest.raises(AttributeError, match="'state' cannot be set on a handle of Counter"):
        cast("Any", handle).state = 1
    with pytest.raises(AttributeError, match="cannot be set"):
        cast("Any", handle).increment = None
    with pytest.raises(AttributeError, match="cannot be set"):
        del cast("Any", handle).increment


def test_handles_and_actions_print_their_actor(client: Client, handle: Counter) -> None:
    assert repr(handle) == '<handle of counter ["k"]>'
    assert repr(handle.increment) == '<action increment of counter ["k"]>'
    assert repr(client.actor("counter", ["ä", "b"])) == '<handle of counter ["ä", "b"]>'
    assert repr(client.get_with_id("42")) == "<handle of the actor with id 42>"
    assert repr(client.accessor("c", Counter).get_with_id("42")) == "<handle of c with id 42>"


def test_tools_may_look_at_a_handle(handle: Counter) -> None:
    own = ["call", "connect", "fetch", "resolve", "websocket", "with_options"]
    assert dir(handle) == sorted([*own, "increment", "reset", "where"])
    assert not hasattr(handle, "__len__")
    with pytest.raises(AttributeError):
        copy.copy(handle)


async def test_a_typed_handle_calls_by_reference_too(transport: Recorder, handle: Counter) -> None:
    anything = cast("Any", handle)
    await anything.call(Counter.where, "me")
    await anything.call("increment", 2)
    assert [call[1:3] for call in transport.calls] == [("whereIs", ["me"]), ("increment", [2])]


class Phone(Actor):
    @action
    def call(self, number: str) -> None:
        pass


async def test_an_action_named_call_is_the_action(client: Client, transport: Recorder) -> None:
    await client.accessor("phone", Phone).get("k").call("110")
    assert transport.calls[0][1:3] == ("call", ["110"])


class Subcounter(Counter):
    pass


async def test_inherited_actions_are_found_by_reference(client: Client) -> None:
    await client.actor("sub").call(Subcounter.increment, 1)
    with pytest.raises(AttributeError, match="Subcounter has no action 'x'"):
        getattr(client.accessor("sub", Subcounter).get(), "x")  # noqa: B009


def test_by_name_arguments_have_no_names(client: Client) -> None:
    with pytest.raises(TypeError, match="positional on the wire"):
        cast("Any", client.actor("counter")).call("increment", amount=1)


def test_a_reference_of_no_actor_is_refused(client: Client) -> None:
    @action
    def lonely(self: Counter) -> None:
        pass

    with pytest.raises(TypeError, match="belongs to no actor class"):
        client.actor("counter").call(lonely)


async def test_options_travel_with_each_call(
    handle: Counter, client: Client, transport: Recorder
) -> None:
    """An idempotency key and a timeout belong to the handle that was given them."""
    keyed = handle.with_options(idempotency_key="order-7", timeout=9)
    with contextlib.suppress(Exception):
        await keyed.increment(1)
    with contextlib.suppress(Exception):
        await handle.increment(1)
    plain = client.actor("counter", "k").with_options(idempotency_key="order-8")
    await plain.call("reset")
    assert transport.keys == ["order-7", None, "order-8"]
    assert [call[4] for call in transport.calls] == [9, 3, 3]
