"""The port between gateway and host: messages are the same on either side of a link."""

from __future__ import annotations

import msgspec
import pytest

from rivet_ray.errors import ActorNotFound, InternalError, Outcome, UserError
from rivet_ray.protocol import caller, port, raw, values

NULL = values.encode(None)
REQUEST = caller.RequestInfo("POST", "http://actor/action/a", [("x", "1"), ("x", "2")])
ADDRESSED = msgspec.structs.replace(REQUEST, client="::1")
CALLER = caller.Caller(params=NULL, auth=values.encode({"id": 1}), request=REQUEST)
FAILURE = port.Failure("c", "m", 400, values.encode({"k": 1}), Outcome.UNKNOWN.value)

RAW = raw.RawRequest("GET", b"/a%20b", b"x=1", [(b"a", b"\xff")], "http", ("::1", 80))
SOCKET = raw.RawRequest("GET", b"/", b"", [], "ws", None, ["chat"])
BOTH: list[raw.RawData | raw.RawTaken | raw.RawArrived | raw.RawEnd] = [
    raw.RawData(8, b"\xff", more=True),
    raw.RawData(8, b"text", text=True),
    raw.RawTaken(8, 65_536),
    raw.RawArrived(262_144),
    raw.RawEnd(8, 1001, "bye"),
]
"""What goes either way."""

TO_HOST: list[port.ToHost] = [
    port.Call(1, "actor", "add", values.encode([1])),
    port.Call(2, "actor", "add", values.EMPTY_ARRAY, connection="c"),
    port.Call(3, "actor", "add", values.EMPTY_ARRAY, caller=CALLER, timeout=1.5),
    port.Cancel(1),
    port.Attach(4, "actor", "connection", "token", CALLER),
    port.Attach(4, "actor", "connection", "token", caller.Caller()),
    port.Attach(4, "actor", "connection", "token", caller.Caller(request=ADDRESSED)),
    port.Detach("connection"),
    port.Subscribe("connection", "event", True),
    port.Subscribe("connection", "event", False),
    port.Credit(64),
    port.Forward(5, "actor", "connection", "token", port.Ask(0, "add", values.encode([1]))),
    port.Forward(6, "actor", "connection", "token", port.Ask(1, "a", values.EMPTY_ARRAY, "k"), 2.5),
    port.Forward(7, "actor", "connection", "token", port.Want("event", True)),
    port.Taken(1, True),
    port.Taken(2, False),
    raw.RawOpen(8, "actor", RAW, CALLER, b"body", timeout=1.5),
    raw.RawOpen(8, "actor", SOCKET, CALLER, more=True),
    raw.RawOpen(9, "actor", RAW, CALLER, chain=["host:1"]),
    *BOTH,
]
TO_GATEWAY: list[port.ToGateway] = [
    port.Reply(1, NULL),
    port.Reply(1, None),
    port.Failed(1, FAILURE),
    port.Failed(1, port.Failure("c", "m", 500)),
    port.Attached(4),
    port.Deliver("actor", "event", values.encode([b"\xff"])),
    port.Deliver("actor", "event", values.EMPTY_ARRAY, connection="c"),
    port.Close("connection", 1000, "bye"),
    port.Handed(1, "connection", port.Ask(0, "add", values.encode([1]), "k")),
    port.Handed(2, "connection", port.Want("event", False)),
    raw.RawStart(8, 200, [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]),
    raw.RawStart(8, 101, [], "chat"),
    *BOTH,
]


@pytest.mark.parametrize("message", TO_HOST, ids=lambda message: type(message).__name__)
def test_to_host(message: port.ToHost) -> None:
    """What a gateway sends over a link is what it would have passed in one process."""
    data = port.encode(message)
    read = port.decode_to_host(data)
    assert read == message
    assert type(read) is type(message)
    if message not in BOTH:
        with pytest.raises(msgspec.ValidationError):
            port.decode_to_gateway(data)


@pytest.mark.parametrize("message", TO_GATEWAY, ids=lambda message: type(message).__name__)
def test_to_gateway(message: port.ToGateway) -> None:
    """What a host sends over a link is what it would have passed in one process."""
    data = port.encode(message)
    read = port.decode_to_gateway(data)
    assert read == message
    assert type(read) is type(message)
    if message not in BOTH:
        with pytest.raises(msgspec.ValidationError):
            port.decode_to_host(data)


def test_a_request_of_a_release_before_addresses() -> None:
    """The address stands last and may be left out, so either release reads the other's."""

    class Older(caller.Message, frozen=True):
        method: str
        url: str
        headers: list[tuple[str, str]]

    older = Older(REQUEST.method, REQUEST.url, REQUEST.headers)
    written = msgspec.msgpack.encode(older)
    assert msgspec.msgpack.decode(written, type=caller.RequestInfo) == REQUEST
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ADDRESSED), type=Older) == older


def test_every_message_is_tested() -> None:
    """A message that is added to the port must be added here."""
    assert {type(message) for message in TO_HOST} == set(port.ToHost.__args__)
    assert {type(message) for message in TO_GATEWAY} == set(port.ToGateway.__args__)


@pytest.mark.parametrize("data", [b"", b"\xc1", values.encode(["call", 1]), values.encode(["x"])])
def test_other_bytes_are_refused(data: bytes) -> None:
    """What is no message is a msgspec error, never a message half filled."""
    with pytest.raises(msgspec.DecodeError):
        port.decode_to_host(data)
    with pytest.raises(msgspec.DecodeError):
        port.decode_to_gateway(data)


def test_failures_are_rebuilt() -> None:
    """A failure is raised as the class that its code belongs to, with all it carried."""
    error = FAILURE.exception()
    assert type(error) is UserError
    assert (error.code, error.message, error.metadata) == ("c", "m", {"k": 1})
    assert error.outcome is Outcome.UNKNOWN
    missing = port.Failure(ActorNotFound.code, "gone", 400).exception()
    assert type(missing) is ActorNotFound
    assert (missing.metadata, missing.outcome) == (None, None)
    assert type(port.Failure(InternalError.code, "", 500).exception()) is InternalError
