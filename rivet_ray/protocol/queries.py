"""Which actor a client means, and whether it may be created on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from rivet_ray.errors import InvalidQueryJSON, InvalidRequest
from rivet_ray.ids import MAX_KEY_PART, code_units
from rivet_ray.protocol.half_pairs import whole_json

Intent = Literal["get", "create", "connect", "action", "message"]


class GetById(msgspec.Struct, frozen=True, rename="camel"):
    actor_id: str

    intents = frozenset[Intent]({"get"})


class GetByKey(msgspec.Struct, frozen=True):
    name: str
    key: list[str]

    intents = frozenset[Intent]({"get"})


class GetOrCreate(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    key: list[str]
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON, unparsed."""
    region: str | None = None

    intents = frozenset[Intent]({"get", "create"})


class Create(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    key: list[str]
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON, unparsed."""
    region: str | None = None

    intents = frozenset[Intent]({"create"})


ActorQuery = GetById | GetByKey | GetOrCreate | Create


class _Query(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The wire form: exactly one member is present."""

    get_for_id: GetById | None = None
    get_for_key: GetByKey | None = None
    get_or_create_for_key: GetOrCreate | None = None
    create: Create | None = None


_decoder = msgspec.json.Decoder(_Query)
_encoder = msgspec.json.Encoder()


def decode_query(text: str | bytes) -> ActorQuery:
    """Read the JSON of `X-RivetKit-Query`.

    Raises InvalidQueryJSON for text that is not JSON and InvalidRequest for
    JSON that is no query.
    """
    try:
        wire = _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The actor query is not valid: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        repaired = whole_json(text)
        if repaired is None:
            raise InvalidQueryJSON(f"The actor query is not JSON: {error}") from error
        return _with_whole_names(decode_query(repaired))
    found = [
        query
        for query in (wire.get_for_id, wire.get_for_key, wire.get_or_create_for_key, wire.create)
        if query is not None
    ]
    if len(found) != 1:
        raise InvalidRequest(
            "The actor query must have exactly one of "
            "getForId, getForKey, getOrCreateForKey and create."
        )
    query = found[0]
    if not isinstance(query, GetById):
        check_key(query.key)
    return query


def _with_whole_names(query: ActorQuery) -> ActorQuery:
    """A query in which halves of surrogate pairs were replaced: in its input only.

    In names they could make one actor of two.
    """
    names = [query.actor_id] if isinstance(query, GetById) else [query.name, *query.key]
    if any("\ufffd" in name for name in names):
        raise InvalidRequest(
            "The actor query names an actor by a text with half of a surrogate pair, which "
            "is not a character. Was a text cut in the middle of an emoji?"
        )
    return query


def encode_query(query: ActorQuery) -> str:
    """A query as the JSON of `X-RivetKit-Query`."""
    match query:
        case GetById():
            wire = _Query(get_for_id=query)
        case GetByKey():
            wire = _Query(get_for_key=query)
        case GetOrCreate():
            wire = _Query(get_or_create_for_key=query)
        case Create():
            wire = _Query(create=query)
    return _encoder.encode(wire).decode()


def check_key(key: Sequence[str]) -> None:
    """Raise InvalidRequest when a part of a key is too long."""
    for part in key:
        if len(part) > MAX_KEY_PART or code_units(part) > MAX_KEY_PART:
            raise InvalidRequest(f"A part of an actor's key has at most {MAX_KEY_PART} characters.")
