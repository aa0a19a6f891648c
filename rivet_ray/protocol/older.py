"""The older form of the documented dialect, which RivetKit's clients in Rust and Python speak.

Headers have other names. A WebSocket says in its address what it wants, and its
parameters in a first message of its own; all other messages are those of
`rivet_ray.protocol.v0`. Nothing here does I/O.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from rivet_ray.errors import InvalidQueryJSON, MalformedMessage
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import DecodeFault, Encoding, Schema
from rivet_ray.protocol.subprotocols import Connect

HEADERS = v0.OLDER_HEADERS
"""Every older name of a public header, with the name that it stands for."""
INTERNAL_HEADERS = tuple(name.replace("X-RivetKit-", "X-AC-") for name in v0.INTERNAL_HEADERS)
"""Never believed of a client, as the newer ones."""

MOST_FIELDS = 32


def parse_address(query_string: bytes) -> Connect:
    """What the address of a WebSocket asks for; parameters come later.

    The first of a kind counts. Clients of this form read integers as they are. Raises
    InvalidQueryJSON for what is no text.
    """
    try:
        fields = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError as error:
        # Replacement characters could name another actor.
        raise InvalidQueryJSON(f"The address cannot be read: {error}") from error
    found: dict[str, str] = {}
    for name, value in fields:
        found.setdefault(name, value)
    return Connect(found.get("query"), found.get("encoding"), None, exact=True)


class _First(msgspec.Struct, gc=False, rename={"params": "p"}):
    params: Any = msgspec.UNSET


class _Body(msgspec.Struct, gc=False, rename={"first": "i"}):
    first: _First


class _Message(msgspec.Struct, gc=False, rename={"body": "b"}):
    body: _Body


_message = Schema(_Message)


def decode_first(encoding: Encoding, frame: bytes | str) -> bytes | None:
    """The parameters in a client's first message, as msgpack; None where it has none.

    Raises MalformedMessage, also for the wrong kind of frame.
    """
    try:
        v0._check_frame(encoding, frame)
        return v0._pack_optional(encoding.decode_as(frame, _message).body.first.params)
    except DecodeFault as error:
        raise MalformedMessage(f"The first message cannot be read: {error}") from error
