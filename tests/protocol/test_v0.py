"""The documented dialect: exact bytes, and what each reader refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from v0_golden import TO_CLIENT, TO_SERVER, TO_SERVER_OF_JAVASCRIPT

from rivet_ray.errors import InvalidActionRequest, MalformedMessage
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.encodings import CBOR, JSON, DecodeFault, EncodeFault, Encoding
from rivet_ray.protocol.v0 import (
    ActionRequest,
    ActionResponse,
    ErrorMessage,
    EventMessage,
    Init,
    SubscriptionRequest,
)

both = pytest.mark.parametrize("encoding", [JSON, CBOR], ids=["json", "cbor"])
pack = values.encode


def frame(encoding: Encoding, data: bytes) -> bytes | str:
    return data if encoding.binary else data.decode()


@pytest.mark.parametrize("encoding", [JSON, CBOR], ids=["json", "cbor"])
def test_an_idempotency_key_travels_with_its_action(encoding: Encoding) -> None:
    """C4: without its key a repeated action would run again."""
    asked = ActionRequest(7, "pay", values.encode([1]), "order-7")
    frame = v0.encode_to_server(encoding, asked)
    assert v0.decode_to_server(encoding, frame if encoding.binary else frame.decode()) == asked


@pytest.mark.parametrize(("message", "json", "cbor"), TO_SERVER)
def test_to_server_bytes(message: v0.ToServer, json: str, cbor: str) -> None:
    """A client's messages are, byte for byte, those of the documentation."""
    cbor_bytes = bytes.fromhex(cbor)
    assert v0.encode_to_server(JSON, message) == json.encode()
    assert v0.encode_to_server(CBOR, message) == cbor_bytes
    assert v0.decode_to_server(JSON, json) == message
    assert v0.decode_to_server(CBOR, cbor_bytes) == message


@pytest.mark.parametrize(("message", "expression", "cbor"), TO_SERVER_OF_JAVASCRIPT)
def test_to_server_bytes_of_the_original(message: v0.ToServer, expression: str, cbor: str) -> None:
    """A client's messages are read as cbor-x writes them."""
    assert v0.decode_to_server(CBOR, bytes.fromhex(cbor)) == message


@pytest.mark.parametrize(("message", "json", "cbor"), TO_CLIENT)
def test_to_client_bytes(message: v0.ToClient, json: str, cbor: str) -> None:
    """A server's messages are, byte for byte, those of the documentation."""
    cbor_bytes = bytes.fromhex(cbor)
    assert v0.encode_to_client(JSON, message) == json.encode()
    assert v0.encode_to_client(CBOR, message) == cbor_bytes
    assert v0.decode_to_client(JSON, json) == message
    assert v0.decode_to_client(CBOR, cbor_bytes) == message


def test_http_bodies() -> None:
    """Bodies of actions, errors and resolved queries are those of the documentation."""
    arguments = pack([1])
    for encoding, expected in ((JSON, b'{"a":[1]}'), (CBOR, bytes.fromhex("a161618101"))):
        assert v0.encode_action_request(encoding, arguments) == expected
        assert v0.decode_action_request(encoding, expected) == arguments
    one, null = (b'{"o":1}', "a1616f01"), (b'{"o":null}', "a1616ff6")
    outputs = {pack(1): one, pack(None): null, None: (b"{}", "a0")}
    for output, (json, cbor) in outputs.items():
        for encoding, expected in ((JSON, json), (CBOR, bytes.fromhex(cbor))):
            assert v0.encode_action_response(encoding, output) == expected
            assert v0.decode_action_response(encoding, expected) == output
    for encoding, expected in ((JSON, b'{"i":"ab"}'), (CBOR, bytes.fromhex("a16169626162"))):
        assert v0.encode_resolved(encoding, "ab") == expected
        assert v0.decode_resolved(encoding, expected) == "ab"


def test_http_errors() -> None:
    """An HTTP error is code, message and metadata if any; never action or outcome."""
    plain = ErrorMessage("c", "m")
    full = ErrorMessage("c", "m", pack({}), 3, "unknown")
    cases = (
        (plain, JSON, b'{"c":"c","m":"m"}'),
        (plain, CBOR, bytes.fromhex("a261636163616d616d")),
        (full, JSON, b'{"c":"c","m":"m","md":{}}'),
        (full, CBOR, bytes.fromhex("a361636163616d616d626d64a0")),
    )
    for error, encoding, expected in cases:
        assert v0.encode_error(encoding, error) == expected
        read = v0.decode_error(encoding, expected)
        assert read == ErrorMessage(error.code, error.message, error.metadata)


def test_cbor_of_the_original_is_read() -> None:
    """cbor-x writes maps with 16-bit lengths and leaves out nothing that is undefined."""
    data = "b900016162 b90001626172 b90003 616900 616e63616464 6161"
    read = v0.decode_to_server(CBOR, bytes.fromhex(data + "8201fb4278bcfe56800000"))
    assert read == ActionRequest(0, "add", pack([1, 1_700_000_000_000]))
    assert v0.decode_action_response(CBOR, bytes.fromhex("b90001616ff7")) is None
    error = v0.decode_error(CBOR, bytes.fromhex("b9000361636163616d616d626d64f7"))
    assert error == ErrorMessage("c", "m")


@pytest.mark.parametrize(
    ("cbor", "arguments"),
    [("81f7", []), ("8301f7f7", [1]), ("82f701", [None, 1]), ("8281f7f7", [[None]])],
)
def test_trailing_undefined_arguments_are_omitted(cbor: str, arguments: list[Any]) -> None:
    """`f(1, undefined)` is `f(1)`; undefined anywhere else is null."""
    assert v0.decode_action_request(CBOR, bytes.fromhex("a16161" + cbor)) == pack(arguments)
    message = bytes.fromhex("a16162a1626172a3616900616e6161 6161" + cbor)
    assert v0.decode_to_server(CBOR, message) == ActionRequest(0, "a", pack(arguments))


@both
def test_unknown_members_are_ignored(encoding: Encoding) -> None:
    """A message with more members than we know is read."""

    def wire(value: Any) -> bytes | str:
        return frame(encoding, encoding.encode(value))

    action = {"i": 1, "n": "a", "a": [], "x": 1}
    expected = ActionRequest(1, "a", pack([]))
    assert v0.decode_to_server(encoding, wire({"b": {"ar": action, "x": 1}, "y": []})) == expected
    init = {"ai": "a", "ci": "b", "ct": "c", "x": 1}
    assert v0.decode_to_client(encoding, wire({"b": {"i": init}})) == Init("a", "b", "c")
    body = encoding.encode({"a": [1], "x": None})
    assert v0.decode_action_request(encoding, body) == pack([1])


@both
@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        {},
        {"b": None},
        {"b": {}},
        {"b": {"x": 1}},
        {"b": {"ar": {"i": 1, "n": "a", "a": []}, "sr": {"e": "a", "s": True}}},
        {"b": {"ar": {"n": "a", "a": []}}},
        {"b": {"ar": {"i": 1, "a": []}}},
        {"b": {"ar": {"i": 1, "n": "a"}}},
        {"b": {"ar": {"i": -1, "n": "a", "a": []}}},
        {"b": {"ar": {"i": 2**53 + 1, "n": "a", "a": []}}},
        {"b": {"ar": {"i": 1.5, "n": "a", "a": []}}},
        {"b": {"ar": {"i": True, "n": "a", "a": []}}},
        {"b": {"ar": {"i": "1", "n": "a", "a": []}}},
        {"b": {"ar": {"i": 1, "n": 1, "a": []}}},
        {"b": {"ar": {"i": 1, "n": "a", "a": {}}}},
        {"b": {"ar": {"i": 1, "n": "a", "a": None}}},
        {"b": {"sr": {"e": "a"}}},
        {"b": {"sr": {"s": True}}},
        {"b": {"sr": {"e": "a", "s": 1}}},
    ],
    ids=str,
)
def test_messages_of_the_wrong_shape(encoding: Encoding, message: Any) -> None:
    """A client's message that is none ends in MalformedMessage, whose code it is sent."""
    with pytest.raises(MalformedMessage):
        v0.decode_to_server(encoding, frame(encoding, encoding.encode(message)))


@both
def test_largest_action_id(encoding: Encoding) -> None:
    """Ids count as far as JavaScript's numbers do."""
    request = ActionRequest(2**53, "a", pack([]))
    data = frame(encoding, v0.encode_to_server(encoding, request))
    assert v0.decode_to_server(encoding, data) == request


@both
@pytest.mark.parametrize(
    "message",
    [
        {},
        {"b": {}},
        {"b": {"i": {"ai": "a", "ci": "b"}}},
        {"b": {"ar": {"o": 1}}},
        {"b": {"ev": {"n": "a"}}},
        {"b": {"e": {"c": "a"}}},
        {"b": {"ev": {"n": "a", "a": []}, "ar": {"i": 1}}},
        {"b": {"i": {"ai": "a", "ci": "b", "ct": "c"}, "e": {"c": "a", "m": "b"}}},
    ],
    ids=str,
)
def test_server_messages_of_the_wrong_shape(encoding: Encoding, message: Any) -> None:
    """A server's message that is none ends in DecodeFault."""
    with pytest.raises(DecodeFault):
        v0.decode_to_client(encoding, frame(encoding, encoding.encode(message)))


def test_wrong_kind_of_frame() -> None:
    """JSON travels in text frames and CBOR in binary ones, without exception."""
    request = SubscriptionRequest("a", True)
    response = ActionResponse(1, None)
    wrong_server = (v0.encode_to_server(JSON, request), v0.encode_to_server(CBOR, request))
    wrong_client = (v0.encode_to_client(JSON, response), v0.encode_to_client(CBOR, response))
    with pytest.raises(MalformedMessage, match="text frames"):
        v0.decode_to_server(JSON, wrong_server[0])
    with pytest.raises(MalformedMessage, match="binary frames"):
        v0.decode_to_server(CBOR, wrong_server[1].decode("latin-1"))
    with pytest.raises(DecodeFault, match="text frames"):
        v0.decode_to_client(JSON, wrong_client[0])
    with pytest.raises(DecodeFault, match="binary frames"):
        v0.decode_to_client(CBOR, wrong_client[1].decode("latin-1"))


@both
def test_integers_that_cannot_be_kept(encoding: Encoding) -> None:
    """An argument of more than 64 bits is refused, not rounded."""
    json, cbor = b'{"a":[18446744073709551616]}', "a1616181c249010000000000000000"
    body = json if encoding is JSON else bytes.fromhex(cbor)
    with pytest.raises(InvalidActionRequest):
        v0.decode_action_request(encoding, body)


@both
def test_depth_counts_the_whole_message(encoding: Encoding) -> None:
    """Arguments may be nested up to the limit of the message that holds them."""
    inside: Any = 1
    for _ in range(97):
        inside = [inside]
    request = ActionRequest(1, "a", pack(inside))
    data = v0.encode_to_server(encoding, request)
    assert v0.decode_to_server(encoding, frame(encoding, data)) == request
    data = v0.encode_to_server(encoding, ActionRequest(1, "a", pack([inside])))
    read = v0.decode_to_server(encoding, frame(encoding, data))
    assert isinstance(read, v0.UnreadableRequest)
    assert read.id == 1


@both
def test_what_cannot_be_written(encoding: Encoding) -> None:
    """Output without a wire form ends in EncodeFault, and so does broken msgpack."""
    for output in (msgspec.msgpack.encode(float("nan")), pack({(1, 2): 3}), pack([1])[:-1], b""):
        with pytest.raises(EncodeFault):
            v0.encode_action_response(encoding, output)
        with pytest.raises(EncodeFault):
            v0.encode_to_client(encoding, ActionResponse(1, output))
    for arguments in (pack({}), msgspec.msgpack.encode([float("inf")]), b"\xc1"):
        with pytest.raises(EncodeFault):
            v0.encode_to_client(encoding, EventMessage("a", arguments))
        with pytest.raises(EncodeFault):
            v0.encode_action_request(encoding, arguments)


Reader = Callable[[Encoding, Any], object]
READERS: list[tuple[Reader, type[Exception]]] = [
    (v0.decode_action_request, InvalidActionRequest),
    (v0.decode_to_server, MalformedMessage),
    (v0.decode_action_response, DecodeFault),
    (v0.decode_error, DecodeFault),
    (v0.decode_resolved, DecodeFault),
    (v0.decode_to_client, DecodeFault),
]


@both
@pytest.mark.parametrize(("read", "fault"), READERS)
@given(data=st.data())
def test_anything_may_arrive(
    encoding: Encoding, read: Reader, fault: type[Exception], data: st.DataObject
) -> None:
    """Random bytes, random text and torn messages raise the documented error or nothing."""
    whole = st.sampled_from([v0.encode_to_client(encoding, message[0]) for message in TO_CLIENT])
    whole |= st.sampled_from([v0.encode_to_server(encoding, message[0]) for message in TO_SERVER])
    torn = st.tuples(whole, st.integers(0, 80), st.binary(max_size=3)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]
    )
    latin = st.binary().map(lambda raw: raw.decode("latin-1"))
    text = st.text() | latin | torn.map(lambda raw: raw.decode(errors="replace"))
    received = data.draw(st.binary() | torn | text)
    with contextlib.suppress(fault):
        read(encoding, received)


def test_constants() -> None:
    """Headers and banner are those that clients and proxies know."""
    ours = ("Query", "Encoding", "Conn-Params", "Actor", "Conn", "Conn-Token")
    expected = ("Content-Type", "User-Agent", *(f"X-RivetKit-{name}" for name in ours))
    added = ("X-RivetKit-Conn-Seen", "X-RivetKit-Integers", "Idempotency-Key")
    older = tuple(f"X-AC-{name}" for name in ours)
    assert (*expected, *added, *older) == v0.ALLOWED_PUBLIC_HEADERS
    assert expected[2:] == v0.PUBLIC_HEADERS
    assert v0.INTERNAL_HEADERS == ("X-RivetKit-Auth-Data", "X-RivetKit-Expose-Internal-Error")
    assert v0.OUTCOME_HEADER == "X-RivetKit-Outcome"
    assert v0.BANNER.startswith("This is a RivetKit registry")
    assert len(v0.BANNER.splitlines()) == 2
