"""CBOR between us and cbor-x on Node, which the clients of the original read and write with."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from v0_golden import TO_CLIENT, TO_SERVER, TO_SERVER_OF_JAVASCRIPT

from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import CBOR, UNDEFINED, DecodeFault, Schema

UTC = datetime.UTC
PEER = Path(__file__).parent / "javascript"
"""Its package.json holds cbor-extract back: npm 11 refuses to install from a lock where a
registry lacks one of its packages for other platforms, which new releases may have not yet.
`npm install --package-lock-only` there renews the lock."""
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks peer.mjs on Node, with cbor-x as package-lock.json has it."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        cure = f"{' and '.join(missing)} missing: apt-get install nodejs npm"
        if os.environ.get("CI") == "true":
            pytest.fail(cure)
        pytest.skip(cure)
    here = tmp_path_factory.mktemp("javascript")
    shutil.copytree(PEER, here, dirs_exist_ok=True)
    installed = subprocess.run(
        INSTALL, cwd=here, capture_output=True, text=True, timeout=50, check=False
    )
    assert installed.returncode == 0, f"{' '.join(INSTALL)}:\n{installed.stderr}"
    with subprocess.Popen(
        ["node", "peer.mjs"], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        requests, answers = node.stdin, node.stdout

        def answer(operation: str, **request: Any) -> Any:
            requests.write(json.dumps({"operation": operation, **request}) + "\n")
            requests.flush()
            found = json.loads(answers.readline())
            assert "error" not in found, found
            return found

        yield answer


def written(ask: Ask, expression: str) -> bytes:
    return bytes.fromhex(ask("writes", expression=expression)["hex"])


# --- Written here, read there -------------------------------------------------------

MOMENT = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
LENGTHS = (0, 23, 24, 255, 256, 65_535, 65_536)
"""Around the borders of CBOR's headers."""
WIDE = "Object.fromEntries(Array.from({length: %d}, (_, i) => ['k' + i, i]))"

READ_THERE: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (False, "false"),
    *((n, str(n)) for n in (0, 1, -1, 23, 24, -24, -25, 255, 256, 65_535, 65_536)),
    *((n, str(n)) for n in (2**31 - 1, 2**31, -(2**31), -(2**31) - 1)),
    *((n, str(n)) for n in (2**32 - 1, 2**32, -(2**32) - 1, 1_700_000_000_000)),
    *((n, str(n)) for n in (2**53 - 1, 2**53, -(2**53), 2**53 + 2, 2**63, -(2**63))),
    *((n, f"{n}n") for n in (2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1, 1 - 2**63)),
    *((x, repr(x)) for x in (0.0, -0.0, 0.1, -1.5, 1e300, 5e-324, 2.0**32, 2.0**70)),
    ("ü 😀 \0", '"ü 😀 \\0"'),
    *(("a" * n, f'"a".repeat({n})') for n in LENGTHS),
    ("ü" * 40_000, '"ü".repeat(40000)'),
    (b"\x01\xff", "new Uint8Array([1, 255])"),
    *((bytes(n), f"new Uint8Array({n})") for n in LENGTHS),
    (MOMENT, '"2024-01-02T03:04:05Z"'),
    (Decimal("1.50"), '"1.50"'),
    ((1, 2), "[1, 2]"),
    ({3}, "[3]"),
    *(([7] * n, f"Array({n}).fill(7)") for n in LENGTHS),
    ({}, "{}"),
    ({"a": [None, {"b": [[]]}], "ü": b""}, '{a: [null, {b: [[]]}], "ü": new Uint8Array(0)}'),
    *(({f"k{i}": i for i in range(n)}, WIDE % n) for n in LENGTHS),
    ({1: "one"}, '{"1": "one"}'),
    ({"__proto__": 1}, "{__proto_: 1}"),  # cbor-x guards against that name
]


@pytest.mark.parametrize(("value", "expression"), READ_THERE, ids=lambda part: repr(part)[:40])
def test_read_there(ask: Ask, value: Any, expression: str) -> None:
    """What we write is the value that JavaScript means by the expression, of the same type."""
    found = ask("reads", hex=CBOR.encode(value).hex(), expression=expression)
    assert found["same"], found["shown"]


@pytest.mark.parametrize(("message", "json", "cbor"), [*TO_CLIENT, *TO_SERVER])
def test_messages_read_there(ask: Ask, message: object, json: str, cbor: str) -> None:
    """Each message in CBOR is what it is in JSON."""
    found = ask("reads", hex=cbor.replace(" ", ""), expression=json)
    assert found["same"], found["shown"]


def test_nothing_read_there(ask: Ask) -> None:
    """An action that returns nothing has no output, one that returns None has null."""
    for output, expression in ((None, "{}"), (b"\xc0", "{o: null}")):
        body = v0.encode_action_response(CBOR, output)
        assert ask("reads", hex=body.hex(), expression=expression)["same"]


# --- Written there, read here -------------------------------------------------------


def moment(milliseconds: int) -> datetime.datetime:
    return datetime.datetime(1970, 1, 1, tzinfo=UTC) + datetime.timedelta(milliseconds=milliseconds)


READ_HERE: list[tuple[str, Any]] = [
    ("null", None),
    ("undefined", None),
    ("true", True),
    ("false", False),
    *((str(n), n) for n in (0, -1, 23, 24, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31)),
    *((str(n), n) for n in (-(2**31), -(2**31) - 1, -(2**32), 2**32 - 1, 2**32, -(2**32) - 1)),
    *((str(n), n) for n in (2**53 - 1, 2**53, -(2**53), 1_700_000_000_000)),
    *((f"{n}n", n) for n in (5, -5, 2**53 + 1, 2**63, 2**64 - 1, -(2**63))),
    *((f"{n}n", DecodeFault) for n in (2**64, -(2**63) - 1, -(2**64) - 1, 2**100, -(2**100))),
    ("2**53 + 2", 2.0**53 + 2),
    ("2**64", 2.0**64),
    *((repr(x), x) for x in (0.1, -1.5, 1e300, 5e-324, 4294967296.5)),
    *((name, DecodeFault) for name in ("NaN", "Infinity", "-Infinity", "[NaN]")),
    ('"ü 😀 \\0"', "ü 😀 \0"),
    *((f'"a".repeat({n})', "a" * n) for n in LENGTHS),
    ('"ü".repeat(40000)', "ü" * 40_000),
    # Half of a surrogate pair, in the short form that cbor-x writes itself and in a long one.
    ('"🎉".slice(0, 1)', "\ufffd"),
    ('"ü🎉🎉".slice(0, 4) + "é"', "ü🎉\ufffdé"),
    ('"é".repeat(100) + "\\udf89"', "é" * 100 + "\ufffd"),
    ('["🎉".slice(1), new Uint8Array([0xed, 0xa0, 0xbc])]', ["\ufffd", b"\xed\xa0\xbc"]),
    ("{a: undefined, b: null, c: {d: undefined}}", {"b": None, "c": {}}),
    ("[undefined, 1, , 2]", [None, 1, None, 2]),
    ("new Uint8Array([1, 255])", b"\x01\xff"),
    ("new Uint8Array([0, 1, 2, 3]).subarray(1, 3)", b"\x01\x02"),
    ("Buffer.from([1, 2])", b"\x01\x02"),
    ("new Uint8Array([1, 2]).buffer", b"\x01\x02"),
    *((f"new Uint8Array({n})", bytes(n)) for n in LENGTHS),
    *((f"new Uint8Array({n}).buffer", bytes(n)) for n in LENGTHS),
    *((f"new Date({ms})", moment(ms)) for ms in (0, 1_704_164_645_000, -1_500, -1_000)),
    ("new Date(1704164645123)", moment(1_704_164_645_123)),
    ("[new Date(253402300799000)]", [moment(253_402_300_799_000)]),
    ("new Date(253402300800000)", DecodeFault),  # the year 10000
    ("new Date(NaN)", DecodeFault),
    ('new Map([["a", 1], ["b", [new Map()]]])', {"a": 1, "b": [{}]}),
    ("new Map([[1, 2]])", DecodeFault),
    ("new Map([[{}, 2]])", DecodeFault),
    ('new Set([1, "a", {b: 2}])', [1, "a", {"b": 2}]),
    ("new Set()", []),
    ("new Int8Array([-1, 127])", [-1, 127]),
    ("new Uint8ClampedArray([0, 300])", [0, 255]),
    ("new Int16Array([-1, 2**15 - 1])", [-1, 2**15 - 1]),
    ("new Uint16Array([1, 2**16 - 1])", [1, 2**16 - 1]),
    ("new Int32Array([-1, 2**31 - 1])", [-1, 2**31 - 1]),
    ("new Uint32Array([1, 2**32 - 1])", [1, 2**32 - 1]),
    ("new BigInt64Array([-1n, 2n**63n - 1n])", [-1, 2**63 - 1]),
    ("new BigUint64Array([1n, 2n**64n - 1n])", [1, 2**64 - 1]),
    ("new Float32Array([1.5, -2])", [1.5, -2.0]),
    ("new Float64Array([0.1, 1e300])", [0.1, 1e300]),
    ("new Float64Array(0)", []),
    ("new Float32Array([NaN])", DecodeFault),
    ("/a+/gi", {"source": "a+", "flags": "gi"}),
    ('new Error("x")', {"name": "Error", "message": "x"}),
    ('[{deep: new TypeError("ü")}]', [{"deep": {"name": "TypeError", "message": "ü"}}]),
    ('{a: [null, {b: [[]]}], "ü": {}}', {"a": [None, {"b": [[]]}], "ü": {}}),
    ("new (class Point { x = 1 })", {"x": 1}),
    ("Object.create(null)", {}),
    ('{1: "one", ["__proto__"]: 2}', {"1": "one", "__proto__": 2}),
    *((f"Array({n}).fill(7)", [7] * n) for n in LENGTHS),
    *((WIDE % n, {f"k{i}": i for i in range(n)}) for n in LENGTHS),
    # Of indefinite length: what JavaScript iterates over without knowing how far.
    ("(function*() { yield 1; yield [2]; })()", [1, [2]]),
    ('{a: (function*() { yield "b"; yield {c: 1}; })()}', {"a": ["b", {"c": 1}]}),
    ("(function*() {})()", []),
    ("(() => { const same = {}; return [same, same]; })()", [{}, {}]),
]


@pytest.mark.parametrize(("expression", "expected"), READ_HERE, ids=lambda part: repr(part)[:40])
def test_read_here(ask: Ask, expression: str, expected: Any) -> None:
    """What cbor-x writes is read with its meaning, alone and inside of something, or refused."""
    around = f"{{a: [{expression}]}}"
    for data in (written(ask, expression), written(ask, around)):
        if expected is DecodeFault:
            with pytest.raises(DecodeFault):
                CBOR.decode(data)
    if expected is not DecodeFault:
        # `repr` tells 1 from 1.0 and True.
        assert repr(CBOR.decode(written(ask, expression))) == repr(expected)
        assert repr(CBOR.decode(written(ask, around))) == repr({"a": [expected]})


def test_undefined_is_told_from_null(ask: Ask) -> None:
    """Where messages need it."""
    data = written(ask, "[undefined, null, {a: undefined}]")
    assert CBOR.decode_as(data, Schema(list[Any])) == [UNDEFINED, None, {}]


@pytest.mark.parametrize(("message", "json", "cbor"), TO_SERVER)
def test_messages_read_here(ask: Ask, message: v0.ToServer, json: str, cbor: str) -> None:
    """A client's message in CBOR of cbor-x is what it is in JSON."""
    assert v0.decode_to_server(CBOR, written(ask, json)) == message


@pytest.mark.parametrize(("message", "json", "cbor"), TO_CLIENT)
def test_server_messages_read_here(ask: Ask, message: v0.ToClient, json: str, cbor: str) -> None:
    """Our client reads a server that writes with cbor-x."""
    assert v0.decode_to_client(CBOR, written(ask, json)) == message


@pytest.mark.parametrize(("message", "expression", "cbor"), TO_SERVER_OF_JAVASCRIPT)
def test_golden_bytes_of_javascript(
    ask: Ask, message: v0.ToServer, expression: str, cbor: str
) -> None:
    """The bytes that the specification gives for cbor-x are those that it writes."""
    assert written(ask, expression) == bytes.fromhex(cbor)
