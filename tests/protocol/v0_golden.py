"""Messages of the documented dialect and their bytes, written down from its specification.

Each with its JSON and its CBOR. `k`, `bye`, `s` and `oc` are ours (ADR 17, 20 and 34).
"""

from __future__ import annotations

from rivet_ray.errors import Outcome
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.v0 import (
    ActionRequest,
    ActionResponse,
    ErrorMessage,
    EventMessage,
    Goodbye,
    Init,
    SubscriptionRequest,
)

pack = values.encode

TO_SERVER: list[tuple[v0.ToServer, str, str]] = [
    (
        ActionRequest(0, "add", pack([1, "x"])),
        '{"b":{"ar":{"i":0,"n":"add","a":[1,"x"]}}}',
        "a16162 a1626172 a3 616900 616e63616464 6161 82016178",
    ),
    (
        ActionRequest(7, "now", pack([])),
        '{"b":{"ar":{"i":7,"n":"now","a":[]}}}',
        "a16162 a1626172 a3 616907 616e636e6f77 6161 80",
    ),
    (
        SubscriptionRequest("new", True),
        '{"b":{"sr":{"e":"new","s":true}}}',
        "a16162 a1627372 a2 6165636e6577 6173f5",
    ),
    (
        SubscriptionRequest("new", False),
        '{"b":{"sr":{"e":"new","s":false}}}',
        "a16162 a1627372 a2 6165636e6577 6173f4",
    ),
    (
        ActionRequest(2, "pay", pack([1]), "order-7"),
        '{"b":{"ar":{"i":2,"n":"pay","a":[1],"k":"order-7"}}}',
        "a16162 a1626172 a4 616902 616e63706179 61618101 616b676f726465722d37",
    ),
    (
        Goodbye(),
        '{"b":{"bye":true}}',
        "a16162 a163627965f5",
    ),
]

TO_SERVER_OF_JAVASCRIPT: list[tuple[v0.ToServer, str, str]] = [
    (
        ActionRequest(0, "add", pack([1, "x"])),
        '{b: {ar: {i: 0, n: "add", a: [1, "x"]}}}',
        "b900016162 b90001626172 b90003 616900 616e63616464 6161 82016178",
    ),
    (
        ActionRequest(7, "now", pack([])),
        '{b: {ar: {i: 7, n: "now", a: []}}}',
        "b900016162 b90001626172 b90003 616907 616e636e6f77 6161 80",
    ),
    (
        ActionRequest(2**32, "set", pack([2**32, {}])),
        '{b: {ar: {i: 2**32, n: "set", a: [2**32, {a: undefined}]}}}',
        "b900016162 b90001626172 b90003 6169fb41f0000000000000 616e63736574"
        "6161 82fb41f0000000000000b900016161f7",
    ),
    (
        SubscriptionRequest("new", True),
        '{b: {sr: {e: "new", s: true}}}',
        "b900016162 b90001627372 b90002 6165636e6577 6173f5",
    ),
    (
        SubscriptionRequest("new", False),
        '{b: {sr: {e: "new", s: false}}}',
        "b900016162 b90001627372 b90002 6165636e6577 6173f4",
    ),
]
"""What a client of the original says, in JavaScript and in its CBOR, which has 16-bit lengths."""

TO_CLIENT: list[tuple[v0.ToClient, str, str]] = [
    (
        Init("a1", "c1", "t="),
        '{"b":{"i":{"ai":"a1","ci":"c1","ct":"t="}}}',
        "a16162 a16169 a3 626169626131 626369626331 62637462743d",
    ),
    (
        ActionResponse(0, pack({"n": 5})),
        '{"b":{"ar":{"i":0,"o":{"n":5}}}}',
        "a16162 a1626172 a2 616900 616f a1616e05",
    ),
    (
        ActionResponse(1, pack(None)),
        '{"b":{"ar":{"i":1,"o":null}}}',
        "a16162 a1626172 a2 616901 616ff6",
    ),
    (
        ActionResponse(1, None),
        '{"b":{"ar":{"i":1}}}',
        "a16162 a1626172 a1 616901",
    ),
    (
        EventMessage("new", pack([1, None])),
        '{"b":{"ev":{"n":"new","a":[1,null]}}}',
        "a16162 a1626576 a2 616e636e6577 6161 8201f6",
    ),
    (
        ErrorMessage("c", "m"),
        '{"b":{"e":{"c":"c","m":"m"}}}',
        "a16162 a16165 a2 61636163 616d616d",
    ),
    (
        ErrorMessage("c", "m", pack({"k": 1}), 0, Outcome.TOOK_EFFECT.value),
        '{"b":{"e":{"c":"c","m":"m","md":{"k":1},"ai":0,"oc":"took_effect"}}}',
        "a16162 a16165 a5 61636163 616d616d 626d64a1616b01 62616900 626f636b746f6f6b5f656666656374",
    ),
    (
        Init("a1", "c1", "t=", 0),
        '{"b":{"i":{"ai":"a1","ci":"c1","ct":"t=","s":0}}}',
        "a16162 a16169 a4 626169626131 626369626331 62637462743d 617300",
    ),
    (
        Init("a1", "c1", "t=", 0, 65_536),
        '{"b":{"i":{"ai":"a1","ci":"c1","ct":"t=","s":0,"ml":65536}}}',
        "a16162 a16169 a5 626169626131 626369626331 62637462743d 617300 626d6c1a00010000",
    ),
    (
        EventMessage("new", pack([]), 2**32),
        '{"b":{"ev":{"n":"new","a":[],"s":4294967296}}}',
        "a16162 a1626576 a3 616e636e6577 616180 6173fb41f0000000000000",
    ),
    (
        ErrorMessage("c", "m", None, None, None, 429),
        '{"b":{"e":{"c":"c","m":"m","st":429}}}',
        "a16162 a16165 a3 61636163 616d616d 6273741901ad",
    ),
    (
        ErrorMessage("c", "m", None, 3),
        '{"b":{"e":{"c":"c","m":"m","ai":3}}}',
        "a16162 a16165 a3 61636163 616d616d 62616903",
    ),
    (
        ErrorMessage("c", "m", pack(None), None, Outcome.UNKNOWN.value),
        '{"b":{"e":{"c":"c","m":"m","md":null,"oc":"unknown"}}}',
        "a16162 a16165 a4 61636163 616d616d 626d64f6 626f6367756e6b6e6f776e",
    ),
]
