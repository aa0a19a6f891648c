"""`encoded`: a port whose messages really are bytes on their way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.counter import Counter
from rivet_ray.errors import UserError
from rivet_ray.protocol import port, values
from rivet_ray.protocol.caller import Caller
from rivet_ray.runtime.calls import HostClient
from rivet_ray.runtime.host import Host
from rivet_ray.store import NewActor, open_store
from rivet_ray.testing import ManualClock, encoded


class Session:
    def __init__(self, sent: list[port.ToHost]) -> None:
        self.sent = sent
        self.closed = 0

    def send(self, message: port.ToHost) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.closed += 1


class Recorder:
    """A host that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[port.ToHost] = []
        self.sessions: list[Session] = []
        self.receivers: list[Callable[[port.ToGateway], None]] = []

    def open(self, receive: Callable[[port.ToGateway], None]) -> port.HostSession:
        self.receivers.append(receive)
        self.sessions.append(Session(self.sent))
        return self.sessions[-1]


def test_messages_to_the_host_are_equal_copies() -> None:
    host = Recorder()
    session = encoded(host).open(lambda _: None)
    messages: list[port.ToHost] = [
        port.Call(1, "actor", "add", values.encode([1]), caller=Caller(values.NULL)),
        port.Cancel(1),
        port.Attach(2, "actor", "connection", "token", Caller()),
        port.Subscribe("connection", "event", True),
        port.Credit(3),
        port.Detach("connection"),
    ]
    for message in messages:
        session.send(message)
    assert host.sent == messages
    assert all(one is not two for one, two in zip(host.sent, messages, strict=True))


def test_messages_to_the_gateway_are_equal_copies() -> None:
    host = Recorder()
    received: list[port.ToGateway] = []
    encoded(host).open(received.append)
    messages: list[port.ToGateway] = [
        port.Reply(1, None),
        port.Failed(2, port.Failure("code", "text", 400)),
        port.Attached(3),
        port.Deliver("actor", "event", values.EMPTY_ARRAY),
        port.Close("connection", 1000, "bye"),
    ]
    for message in messages:
        host.receivers[0](message)
    assert received == messages
    assert all(one is not two for one, two in zip(received, messages, strict=True))


def test_sessions_are_kept_apart_and_closed() -> None:
    host = Recorder()
    wrapped = encoded(host)
    received: list[list[port.ToGateway]] = [[], []]
    first, second = wrapped.open(received[0].append), wrapped.open(received[1].append)
    host.receivers[1](port.Attached(1))
    assert received == [[], [port.Attached(1)]]
    first.close()
    assert [session.closed for session in host.sessions] == [1, 0]
    second.close()
    assert [session.closed for session in host.sessions] == [1, 1]


def test_what_cannot_be_encoded_is_noticed() -> None:
    """An object that crossed the port by reference fails here, not on the first link."""
    session = encoded(Recorder()).open(lambda _: None)
    with pytest.raises(TypeError):
        session.send(port.Detach(object()))  # type: ignore[arg-type]


async def test_a_host_works_behind_it() -> None:
    store = await open_store("memory://")
    record, _ = await store.create(NewActor("default", "counter", ("k",)))
    host = Host({"counter": Counter.__definition__}, store, clock=ManualClock())
    calls = HostClient(encoded(host))
    try:
        assert await calls.call(record.id, "increment", values.encode([5])) == values.encode(5)
        with pytest.raises(UserError, match="amount"):
            await calls.call(record.id, "increment", values.encode(["five"]))
        assert await calls.call(record.id, "get_count", values.EMPTY_ARRAY) == values.encode(5)
    finally:
        await host.close()
        calls.close()
