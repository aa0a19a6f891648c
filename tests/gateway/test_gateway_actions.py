"""HTTP actions: what goes in, what comes out, and every way to be refused."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field
from typing import Any

import cbor2
import pytest
from gateway_wire import (
    HIDDEN,
    OUTCOME,
    Serve,
    Wire,
    by_id,
    create,
    get,
    get_or_create,
)

from rivet_ray import Actor, Event, Forbidden, Unauthorized, UserError, action
from rivet_ray.gateway import GatewaySettings

RAN: list[str] = []
"""What must never run leaves its name here."""


@dataclass
class Bag:
    count: int = 0
    log: list[str] = field(default_factory=list[str])
    thing: Any = None


class TooMany(UserError):
    status = 429


class Counter(Actor[Bag]):
    public = True

    new_count = Event[int]()

    def create_state(self, input: Any) -> Bag:
        RAN.append("create_state")
        return Bag(count=input or 0)

    def on_start(self) -> None:
        RAN.append("on_start")

    def _secret(self) -> str:
        RAN.append("_secret")
        return "secret"

    def helper(self) -> str:
        RAN.append("helper")
        return "helped"

    @action
    def add(self, amount: int = 1) -> int:
        self.state.count += amount
        return self.state.count

    @action
    async def add_later(self, amount: int, times: int = 1) -> int:
        await asyncio.sleep(0)
        self.state.count += amount * times
        return self.state.count

    @action
    def echo(self, value: Any) -> Any:
        return value

    @action
    def twice(self, value: int) -> int:
        return 2 * value

    @action
    def count_arguments(self, *values: Any) -> int:
        return len(values)

    @action(name="whoAmI")
    def who_am_i(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "key": list(self.key), "region": self.region}

    @action
    def nothing(self) -> None:
        pass

    @action
    async def nothing_later(self) -> None:
        pass

    @action
    def maybe(self) -> int | None:
        return None

    @action
    def unannotated(self):  # type: ignore[no-untyped-def]
        return None

    @action
    def user_error(self) -> None:
        self.state.count += 1
        raise UserError("No, thanks.", code="refused", metadata={"why": ["a", 1, None]})

    @action
    async def plain_user_error(self) -> None:
        raise UserError("Only words.")

    @action
    def unauthorized(self) -> None:
        raise Unauthorized

    @action
    def too_many(self) -> None:
        raise TooMany("Later.", code="slow_down")

    @action
    async def forbidden(self) -> None:
        raise Forbidden("Not you.")

    @action
    def boom(self) -> None:
        self.state.count += 1
        raise ValueError("the password is hunter2")

    @action
    async def boom_later(self) -> None:
        await asyncio.sleep(0)
        raise KeyError("the password is hunter2")

    @action
    def unsendable(self) -> Any:
        self.state.count += 1
        return object()

    @action
    def unsaveable(self) -> int:
        self.state.thing = object()
        return 1

    @action
    def not_finite(self) -> float:
        self.state.count += 1
        return math.nan

    @action
    def not_finite_metadata(self) -> None:
        raise UserError("Cannot be told.", code="untold", metadata={"value": math.inf})

    @action
    def half_a_letter(self) -> None:
        raise UserError("Half a letter: \ud83d")


ACTORS = {"counter": Counter}
A = get_or_create("counter", "a")


# --- Success --------------------------------------------------------------------


async def test_output_and_content_type(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "add", 5)
    assert answer.status == 200
    assert answer.body == {"o": 5}
    assert answer.headers["content-type"].partition(";")[0] == wire.content_type
    assert OUTCOME not in answer.headers
    assert (await site.call(A, "add", 2)).output == 7


@pytest.mark.parametrize("action_name", ["nothing", "nothing_later"])
async def test_nothing_has_no_output_member(serve: Serve, action_name: str) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, action_name)
    assert (answer.status, answer.body) == (200, {})


@pytest.mark.parametrize("action_name", ["maybe", "unannotated"])
async def test_none_of_another_annotation_is_null(serve: Serve, action_name: str) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, action_name)
    assert (answer.status, answer.body) == (200, {"o": None})


async def test_null_in_and_out_is_kept(serve: Serve) -> None:
    site = await serve(ACTORS)
    assert (await site.call(A, "echo", None)).body == {"o": None}


async def test_defaults_fill_in_what_is_left_out(serve: Serve) -> None:
    site = await serve(ACTORS)
    assert (await site.call(A, "add")).output == 1
    assert (await site.call(A, "add_later", 4)).output == 5
    assert (await site.call(A, "add_later", 4, 2)).output == 13
    assert (await site.call(A, "count_arguments", 1, None, [])).output == 3


@pytest.mark.parametrize("mount", ["", "/registry"])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_both_mounts_and_a_trailing_slash(serve: Serve, mount: str, slash: str) -> None:
    site = await serve(ACTORS)
    body = site.wire.dumps({"a": [3]})
    answer = await site.post(f"{mount}/actors/actions/add{slash}", site.headers(A), body)
    assert answer.output == 3
    answer = await site.post(f"{mount}/actors/resolve{slash}", site.headers(A), b"")
    assert answer.body == {"i": "704e99e868244ebb"}


async def test_action_has_its_wire_name(serve: Serve) -> None:
    site = await serve(ACTORS)
    assert (await site.call(A, "whoAmI")).output == {
        "id": "704e99e868244ebb",
        "name": "counter",
        "key": ["a"],
        "region": "unknown",
    }
    assert (await site.call(A, "who_am_i")).code == "action_not_found"


VALUES = [
    *(True, False, 0, -1, 2**31, 2**32, 2**40, 2**53, -(2**53), 0.5, -1.25e-9, 1e300),
    *("", "é €\U0001f600\0", "x" * 100_000, [], {}, [[], {"a": [None]}], {"": {"ö": 1}}),
]


@pytest.mark.parametrize("value", VALUES, ids=[repr(value)[:20] for value in VALUES])
async def test_values_come_back_as_they_were_sent(serve: Serve, value: Any) -> None:
    site = await serve(ACTORS)
    assert (await site.call(A, "echo", value)).output == value


async def test_large_integers_are_numbers_to_a_javascript_client(serve: Serve, wire: Wire) -> None:
    """A.1.2: a 64-bit CBOR integer would become a BigInt."""
    site = await serve(ACTORS)
    answer = await site.call(A, "echo", 2**40)
    if wire.name == "cbor":
        assert b"\xfb" in answer.raw, "exact as a float64"
        assert b"\x1b" not in answer.raw
    else:
        assert json.loads(answer.raw) == {"o": 2**40}


CBOR_X = {
    "map with a 16-bit length": (b"\xb9\x00\x01\x61a\x82\x01\x02", 2),
    "indefinite map and array": (b"\xbf\x61a\x9f\x01\x02\xff\xff", 2),
    "float64 beyond 32 bits": (b"\xa1\x61a\x82\xfb\x42\x70" + bytes(6) + b"\x02", 2**41),
    "undefined at the end": (b"\xa1\x61a\x83\x01\x02\xf7", 2),
}


@pytest.mark.parametrize(("body", "expected"), CBOR_X.values(), ids=CBOR_X.keys())
async def test_cbor_as_cbor_x_writes_it(
    serve: Serve, wire: Wire, body: bytes, expected: int
) -> None:
    if wire.name == "json":
        body = json.dumps({"a": [expected, 1], "other": {}}).encode()
    site = await serve(ACTORS)
    answer = await site.post("/actors/actions/add_later", site.headers(A), body)
    assert answer.output == expected


async def test_undefined_takes_the_default_and_so_does_null(serve: Serve, wire: Wire) -> None:
    """In JSON, null is what an undefined argument is; one that has no default refuses it."""
    site = await serve(ACTORS)
    if wire.name == "cbor":
        body = cbor2.dumps({"a": [cbor2.undefined]})
        answer = await site.post("/actors/actions/add", site.headers(A), body)
        assert answer.output == 1
    answer = await site.call(get_or_create("counter", "b"), "add", None)
    assert answer.output == 1
    answer = await site.call(A, "twice", None)
    assert answer.code == "user_error"


# --- Which actor ------------------------------------------------------------------


async def test_get_or_create_then_get_then_id(serve: Serve) -> None:
    site = await serve(ACTORS)
    assert (await site.call(get("counter", "a"), "add")).code == "actor_not_found"
    assert (await site.call(A, "add", 5)).output == 5
    assert (await site.call(get("counter", "a"), "add")).output == 6
    assert (await site.call(by_id("704e99e868244ebb"), "add")).output == 7


async def test_create_and_its_conflict(serve: Serve) -> None:
    site = await serve(ACTORS)
    made = create("counter", "new", input=40, params={"ignored": 1}, signal={}, region="eu")
    assert (await site.call(made, "add", 2)).output == 42
    answer = await site.call(made, "add", 2)
    assert (answer.status, answer.code, answer.outcome) == (
        400,
        "actor_already_exists",
        "not_started",
    )
    assert (await site.resolve(made)).code == "actor_already_exists"
    assert (await site.call(get("counter", "new"), "add", 0)).output == 42


async def test_create_after_a_failed_get(serve: Serve) -> None:
    """A.8: the original then says that the actor exists."""
    site = await serve(ACTORS)
    assert (await site.call(get("counter", "x"), "add")).code == "actor_not_found"
    assert (await site.call(create("counter", "x"), "add")).output == 1


async def test_input_counts_at_the_first_start_only(serve: Serve) -> None:
    site = await serve(ACTORS)
    assert (await site.call(get_or_create("counter", "i", input=10), "add")).output == 11
    assert (await site.call(get_or_create("counter", "i", input=500), "add")).output == 12


@pytest.mark.parametrize(
    "query",
    [get("counter", "missing"), by_id("0123456789abcdef"), get_or_create("stranger", "a")],
    ids=["key", "id", "type"],
)
async def test_no_such_actor(serve: Serve, query: Any) -> None:
    site = await serve(ACTORS)
    for answer in (await site.call(query, "add"), await site.resolve(query)):
        assert (answer.status, answer.code) == (400, "actor_not_found")
        assert answer.outcome == "not_started"


async def test_ids_are_those_of_the_original(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    answer = await site.resolve(A)
    assert (answer.status, answer.body) == (200, {"i": "704e99e868244ebb"})
    expected = "text/plain" if wire.name == "json" else "application/octet-stream"
    assert answer.headers["content-type"].partition(";")[0] == expected
    assert (await site.resolve(get("counter", "a"))).body == {"i": "704e99e868244ebb"}
    assert (await site.resolve(by_id("704e99e868244ebb"))).body == {"i": "704e99e868244ebb"}


async def test_a_key_is_its_exact_parts(serve: Serve) -> None:
    site = await serve(ACTORS)
    keys = [
        (),
        ("",),
        ("a", "b"),
        ("b", "a"),
        ("a:b",),
        ("a,b",),
        ("a\\", "b"),
        ("é", "\U0001f600"),
    ]
    for amount, key in enumerate(keys, 1):
        assert (await site.call(get_or_create("counter", *key), "add", amount)).output == amount
    for amount, key in enumerate(keys, 1):
        assert (await site.call(get("counter", *key), "add", 0)).output == amount


# --- Which action -----------------------------------------------------------------

UNREACHABLE = [
    *("_secret", "helper", "on_start", "create_state", "__init__", "__init_subclass__"),
    *("__class__", "state", "broadcast", "save", "conn", "conns", "key", "id", "public"),
    *("on_auth", "on_before_connect", "on_disconnect", "new_count", "connect", "resolve"),
    *("add.local", "Add", "unknown", "_Actor__context", "__definition__", "%00", " "),
]


@pytest.mark.parametrize("name", UNREACHABLE)
async def test_only_actions_can_be_called(serve: Serve, name: str) -> None:
    """C10, over HTTP and over a connection."""
    site = await serve(ACTORS)
    await site.call(A, "add")
    RAN.clear()
    answer = await site.call(A, name)
    assert (answer.status, answer.code) == (400, "action_not_found")
    assert answer.outcome == "not_started"
    async with site.connect(A) as socket:
        await socket.call(1, name)
        body = await socket.next()
        assert body["e"]["c"] == "action_not_found"
        assert body["e"]["ai"] == 1
        assert await socket.ask(2, "add") == 2
    assert RAN == []


# --- Wrong arguments --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "parameter"),
    [
        ("add", ["five"], "amount"),
        ("add", [1.5], "amount"),
        ("add", [True], "amount"),
        ("add", [{}], "amount"),
        ("add_later", [], "amount"),
        ("add_later", [1, []], "times"),
        ("add", [1, 2], None),
    ],
)
async def test_wrong_arguments(
    serve: Serve, name: str, arguments: list[Any], parameter: str | None
) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, name, *arguments)
    assert (answer.status, answer.code, answer.outcome) == (400, "user_error", "not_started")
    if parameter is not None:
        assert answer.body["md"]["parameter"] == parameter
        assert parameter in answer.body["m"]
    assert (await site.call(A, "add", 0)).output == 0


# --- Errors of actions --------------------------------------------------------------


async def test_user_error_with_code_and_metadata(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "user_error")
    assert (answer.status, answer.outcome) == (400, "took_effect")
    assert answer.body == {
        "c": "refused",
        "m": "No, thanks.",
        "md": {"why": ["a", 1, None]},
    }
    if wire.name == "json":
        found = answer.headers["content-type"].lower().replace(" ", "")
        assert found == "text/plain;charset=utf-8"
    assert (await site.call(A, "add", 0)).output == 1, "what it changed is kept"


async def test_user_error_without_metadata_has_no_member(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "plain_user_error")
    assert (answer.status, answer.body) == (400, {"c": "user_error", "m": "Only words."})


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("unauthorized", 401, "unauthorized"),
        ("forbidden", 403, "forbidden"),
        ("too_many", 429, "slow_down"),
    ],
)
async def test_errors_with_their_own_status(
    serve: Serve, name: str, status: int, code: str
) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, name)
    assert (answer.status, answer.code, answer.outcome) == (status, code, "took_effect")
    challenge = {401: "Bearer"}.get(status)
    assert answer.headers.get("www-authenticate") == challenge, "RFC 9110, 15.5.2"


@pytest.mark.parametrize("name", ["boom", "boom_later", "unsendable"])
async def test_any_other_exception_is_hidden(serve: Serve, name: str) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, name)
    assert (answer.status, answer.outcome) == (500, "took_effect")
    assert answer.body == {"c": "internal_error", "m": HIDDEN, "md": {}}
    assert b"hunter2" not in answer.raw
    assert "hunter2" not in str(answer.headers)
    assert (await site.call(A, "add", 0)).output == (0 if name == "boom_later" else 1)


async def test_state_that_cannot_be_saved(serve: Serve) -> None:
    site = await serve(ACTORS)
    await site.call(A, "add", 3)
    answer = await site.call(A, "unsaveable")
    assert (answer.status, answer.body["c"], answer.body["m"]) == (500, "internal_error", HIDDEN)
    assert b"object" not in answer.raw
    assert answer.outcome is not None, "C8: every error says what is known"
    assert (await site.call(A, "add", 0)).output == 3, "the actor is usable again"


async def test_a_result_without_a_wire_form(serve: Serve) -> None:
    """C8: it ran, so it did not `not_start`."""
    site = await serve(ACTORS)
    answer = await site.call(A, "not_finite")
    assert (answer.status, answer.body) == (
        500,
        {"c": "internal_error", "m": HIDDEN, "md": {}},
    )
    assert answer.outcome in ("took_effect", "unknown")
    assert (await site.call(A, "add", 0)).output == 1


@pytest.mark.parametrize("name", ["not_finite_metadata", "half_a_letter"])
async def test_an_error_without_a_wire_form(serve: Serve, name: str) -> None:
    """An error stays a typed error even where its text or metadata cannot be sent."""
    site = await serve(ACTORS)
    answer = await site.call(A, name)
    assert answer.code in ("untold", "user_error", "internal_error")
    assert answer.outcome in ("took_effect", "unknown")
    assert (await site.call(A, "add", 1)).output == 1, "the actor lives"


# --- Bodies -------------------------------------------------------------------------

BODIES = {
    "empty": (b"", b""),
    "garbage": (b"{not json", b"\xff\xff\xff"),
    "cut off": (b'{"a": [1', b"\xa1\x61a\x82\x01"),
    "trailing": (b'{"a": []} {}', b"\xa1\x61a\x80\x00"),
    "no arguments": (b"{}", b"\xa0"),
    "null": (b"null", b"\xf6"),
    "a list": (b"[]", b"\x80"),
    "arguments are a map": (b'{"a": {}}', b"\xa1\x61a\xa0"),
    "not UTF-8": (b'{"a": ["\xff"]}', b"\xa1\x61a\x81\x61\xff"),
    "too large an integer": (
        b'{"a": [' + b"9" * 40 + b"]}",
        b"\xa1\x61a\x81\xc2\x50" + b"\xff" * 16,
    ),
    "too deep": (b'{"a": ' + b"[" * 5000, b"\xa1\x61a" + b"\x81" * 5000),
    "deep and whole": (
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"\xa1\x61a" + b"\x81" * 5000 + b"\x80",
    ),
    "infinite": (b'{"a": [NaN]}', b"\xa1\x61a\x81\xf9\x7c\x00"),
    "a huge length": (b'{"a": [1e999]}', b"\xa1\x61a\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
    "the other encoding": (b"\xa1\x61a\x80", b'{"a": []}'),
}


@pytest.mark.parametrize("bodies", BODIES.values(), ids=BODIES.keys())
async def test_malformed_bodies(serve: Serve, wire: Wire, bodies: tuple[bytes, bytes]) -> None:
    site = await serve(ACTORS)
    body = bodies[0 if wire.name == "json" else 1]
    answer = await site.post("/actors/actions/count_arguments", site.headers(A), body)
    assert (answer.status, answer.code) == (400, "invalid_action_request")
    assert answer.outcome == "not_started"
    assert (await site.call(A, "add")).output == 1


async def _in_chunks(data: bytes) -> Any:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversized_body_is_refused(serve: Serve, chunked: bool) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(max_body_size=2_000))
    body = site.wire.dumps({"a": ["x" * 5_000]})
    answer = await site.post(
        "/actors/actions/echo", site.headers(A), _in_chunks(body) if chunked else body
    )
    assert answer.code == "message_too_long"
    assert answer.status in (400, 413)
    assert answer.outcome == "not_started"
    fits = site.wire.dumps({"a": ["x" * 1_900]})
    answer = await site.post(
        "/actors/actions/echo", site.headers(A), _in_chunks(fits) if chunked else fits
    )
    assert answer.output == "x" * 1_900


async def test_resolve_ignores_its_body(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await site.post("/actors/resolve", site.headers(A), b"\xff{")
    assert answer.body == {"i": "704e99e868244ebb"}
