"""JSON and CBOR, as the clients of the original write and read them.

Both speak of the same values: None, booleans, integers from -2**63 to 2**64-1,
finite floats, strings, bytes, dates, lists and dicts with string keys. What
cannot travel in both is refused in both, so an action behaves alike in either.
A member of a dict that is undefined in JavaScript is absent, and half of a surrogate
pair in a text is U+FFFD.
What arrives is never trusted: reading takes time and memory in proportion to
the bytes received, and every bad byte ends in a DecodeFault.
"""

from __future__ import annotations

import abc
import base64
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast, final

import cbor2
import msgspec

from rivet_ray.protocol import values
from rivet_ray.protocol.cbor_tags import TAGS, refuse_tag
from rivet_ray.protocol.faults import DecodeFault as DecodeFault
from rivet_ray.protocol.faults import EncodeFault as EncodeFault
from rivet_ray.protocol.faults import IntegerFault as IntegerFault
from rivet_ray.protocol.half_pairs import whole_cbor, whole_json
from rivet_ray.protocol.weighing import DIGITS_AS_ZERO, weigh_cbor, weigh_json
from rivet_ray.protocol.weighing import MAX_DEPTH as MAX_DEPTH

UNDEFINED = cbor2.undefined
"""JavaScript's undefined, where `Encoding.decode_as` tells it from null."""

_T = TypeVar("_T")
_BYTES_LIKE: tuple[type[Any], ...] = (bytes, bytearray, memoryview)
_ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, cbor2.CBORError)
_DECODE_ERRORS = (*_ENCODE_ERRORS, MemoryError)


class Schema(Generic[_T]):
    """A type that messages are checked against, in either encoding."""

    def __init__(self, kind: type[_T]) -> None:
        self.kind = kind
        self.json = msgspec.json.Decoder(kind)


class Encoding(abc.ABC):
    """One way to write plain values as bytes."""

    name: str
    """The value of `X-RivetKit-Encoding`."""
    content_type: str
    """The media type of HTTP bodies."""
    binary: bool
    """Whether WebSocket frames are binary; otherwise they are text."""
    for_doubles: Encoding
    """The same for a reader whose numbers are all doubles, as JavaScript's are.

    Writing raises IntegerFault for an integer that a double does not hold: JSON.parse
    would change it, and in CBOR it would be a BigInt, for which JSON.stringify raises.
    """

    @abc.abstractmethod
    def weigh(self, data: bytes | str, most: int) -> int:
        """How much work it will be to read the bytes: see `rivet_ray.protocol.weighing`.

        Stops above `most`. Raises DecodeFault for some of what cannot be read.
        """

    @abc.abstractmethod
    def encode(self, value: Any) -> bytes:
        """A value as bytes. Raises EncodeFault."""

    @abc.abstractmethod
    def decode(self, data: bytes | str) -> Any:
        """Bytes as plain values; undefined is None. Raises DecodeFault, nothing else."""

    @abc.abstractmethod
    def decode_as(self, data: bytes | str, schema: Schema[_T]) -> _T:
        """Bytes as an instance of the schema's type. Raises DecodeFault, nothing else.

        Untyped lists hold UNDEFINED wherever the client wrote undefined.
        """


# --- JSON -------------------------------------------------------------------


@final
class _JSON(Encoding):
    name = "json"
    content_type = "application/json"
    binary = False

    def __init__(self, *, doubles: bool = False) -> None:
        self._doubles = doubles
        self._encoder = msgspec.json.Encoder(enc_hook=values.encode_custom)
        self._untyped = Schema(object)
        self.for_doubles = self if doubles else _JSON(doubles=True)

    def weigh(self, data: bytes | str, most: int) -> int:
        return weigh_json(_as_bytes(data), most)

    def encode(self, value: Any) -> bytes:
        try:
            data = self._encoder.encode(value)
            if b"null" in data or _may_have_long_number(data):
                self._check(value)
            if self._doubles and _may_have_long_number(data, _DIGITS_OF_A_DOUBLE):
                _check_exact(_to_builtins(value))
        except EncodeFault:
            raise
        except _ENCODE_ERRORS as error:
            raise EncodeFault(f"the value cannot be sent as JSON: {error}") from error
        return data

    def _check(self, value: Any) -> None:
        # JSON has no limit to integers: msgpack refuses what we could not keep. And
        # msgspec writes NaN as null, which would lose data silently; a msgpack float
        # shows it, or comes close enough to look at each float.
        if _NOT_FINITE.search(values.encode(value)) and _has(_is_not_finite, _to_builtins(value)):
            raise EncodeFault("NaN and Infinity have no form in JSON")

    def decode(self, data: bytes | str) -> Any:
        value = self.decode_as(data, self._untyped)
        if _may_have_long_number(_as_bytes(data)) and _has(_is_too_long, value):
            raise DecodeFault("an integer outside -2**63..2**64-1 cannot be read")
        return value

    def decode_as(self, data: bytes | str, schema: Schema[_T]) -> _T:
        try:
            value = schema.json.decode(data)
        except msgspec.ValidationError as error:
            raise _unreadable_json(error) from error
        except _DECODE_ERRORS as error:
            repaired = whole_json(data)
            if repaired is None:
                raise _unreadable_json(error) from error
            return self.decode_as(repaired, schema)
        if _may_be_deep(data) and _is_too_deep(value):
            raise DecodeFault(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        return value


def _unreadable_json(error: Exception) -> DecodeFault:
    return DecodeFault(f"the JSON cannot be read: {error}")


_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


_DIGITS_OF_A_DOUBLE = 16
"""2**53 has as many."""


def _may_have_long_number(data: bytes, digits: int = 19) -> bool:
    return b"0" * digits in data.translate(DIGITS_AS_ZERO)


def _check_exact(value: Any) -> None:
    for level in _levels(value):
        for member in level:
            if _type_of(member) is int and not _is_exact(member):
                raise IntegerFault(member)


def _is_exact(value: int) -> bool:
    return -(2**53) <= value <= 2**53 or int(float(value)) == value


def _as_bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _may_be_deep(data: bytes | str) -> bool:
    if isinstance(data, str):
        return data.count("[") + data.count("{") > MAX_DEPTH
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH


_type_of: Callable[[Any], type[Any]] = type


def _levels(value: Any) -> Iterator[list[Any]]:
    """The value, then its members, then theirs; no recursion, whatever the depth."""
    level = [value]
    while level:
        yield level
        level = [member for container in level for member in _members(container)]


def _members(value: Any) -> Iterable[Any]:
    kind = _type_of(value)
    if kind is dict:
        by_key: dict[Any, Any] = value
        return by_key.values()
    if kind is list:
        items: list[Any] = value
        return items
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.astuple(value)
    return ()


def _is_too_deep(value: Any) -> bool:
    for depth, level in enumerate(_levels(value)):
        if depth == MAX_DEPTH:
            return any(_members(member) for member in level)
    return False


def _has(wanted: Callable[[Any], bool], value: Any) -> bool:
    return any(wanted(member) for level in _levels(value) for member in level)


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _is_too_long(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**64


def _to_builtins(value: Any) -> Any:
    """Dates, Structs, sets and all else as what JSON knows, and bytes as they are."""
    return msgspec.to_builtins(
        value, builtin_types=_BYTES_LIKE, str_keys=True, enc_hook=values.encode_custom
    )


# --- CBOR -------------------------------------------------------------------


@final
class _CBOR(Encoding):
    name = "cbor"
    content_type = "application/octet-stream"
    binary = True

    def __init__(self, *, doubles: bool = False) -> None:
        self._large = _double if doubles else _large_integer
        self.for_doubles = self if doubles else _CBOR(doubles=True)

    def weigh(self, data: bytes | str, most: int) -> int:
        return 0 if isinstance(data, str) else weigh_cbor(data, most)

    def encode(self, value: Any) -> bytes:
        try:
            return cbor2.dumps(_for_javascript(value, self._large))
        except EncodeFault:
            raise
        except _ENCODE_ERRORS as error:
            raise EncodeFault(f"the value cannot be sent as CBOR: {error}") from error

    def decode(self, data: bytes | str) -> Any:
        return self._decode(data, undefined=None)

    def decode_as(self, data: bytes | str, schema: Schema[_T]) -> _T:
        value = self._decode(data, undefined=UNDEFINED)
        try:
            return msgspec.convert(value, schema.kind)
        except _DECODE_ERRORS as error:
            raise DecodeFault(f"the CBOR does not fit: {error}") from error

    def _decode(self, data: bytes | str, undefined: Any, *, repaired: bool = False) -> Any:
        if isinstance(data, str):
            raise DecodeFault("CBOR is binary, and this is text")
        stream = io.BytesIO(data)
        try:
            value = cbor2.CBORDecoder(
                stream,
                max_depth=MAX_DEPTH,
                semantic_decoders=TAGS,
                tag_hook=refuse_tag,
                # Numbers and lists as keys can be made to collide at will.
                strict_hashable_types=True,
            ).decode()
            if stream.tell() != len(data):
                raise DecodeFault("bytes follow the CBOR item")
            if data.translate(None, _USUAL):
                value = _from_javascript(value, undefined)
        except DecodeFault:
            raise
        except _DECODE_ERRORS as error:
            # cbor2 wraps what our tag readers raise; their text is the better one.
            reason: object = error
            if isinstance(error.__cause__, DecodeFault):
                reason = error.__cause__
            elif isinstance(error.__cause__, UnicodeDecodeError):
                if not repaired:
                    return self._decode(whole_cbor(data), undefined, repaired=True)
                reason = f"a text is not UTF-8 ({error.__cause__.reason})"
            raise DecodeFault(f"the CBOR cannot be read: {reason}") from error
        return value


def _for_javascript(value: Any, large: Callable[[int], int | float]) -> Any:
    """The value in the types that make cbor2 write what a JavaScript client expects.

    `large` says what an integer of more than 32 bits becomes.
    """
    kind = _type_of(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -(2**31) <= value < 2**32 else large(value)
    if kind is list or kind is tuple:
        return [_for_javascript(member, large) for member in value]
    if kind is dict:
        return {
            key if type(key) is str else _as_string_key(key): _for_javascript(member, large)
            for key, member in value.items()
        }
    if kind is float:
        if not math.isfinite(value):
            raise EncodeFault("NaN and Infinity are not sent: JSON has no form for them")
        return value
    if isinstance(value, _BYTES_LIKE):
        return cbor2.CBORTag(64, bytes(value))
    return _for_javascript(_to_builtins(value), large)


def _large_integer(value: int) -> int | float:
    """A float where it is exact: in JavaScript a 64-bit CBOR integer is a BigInt."""
    if not -(2**63) <= value < 2**64:
        raise EncodeFault("an integer outside -2**63..2**64-1 cannot be sent")
    number = float(value)
    return number if int(number) == value else value


def _double(value: int) -> float:
    number = _large_integer(value)
    if isinstance(number, int):
        raise IntegerFault(value)
    return number


def _as_string_key(key: Any) -> str:
    if isinstance(key, bytes):
        return base64.b64encode(key).decode()
    (text,) = _to_builtins({key: None})
    return cast("str", text)


_USUAL = bytes(
    byte
    for byte in range(256)
    if not (byte == 0x3B or 0xD8 <= byte <= 0xDB or 0xE0 <= byte <= 0xF3 or 0xF7 <= byte <= 0xFB)
)
"""Where there are only these bytes, there is no float, no typed array, no undefined, no
simple value and no integer below -2**63, and so nothing to translate."""


def _from_javascript(value: Any, undefined: Any) -> Any:
    """What cbor2 read, as the numbers that JavaScript meant, and nothing unknown."""
    kind = _type_of(value)
    if kind is str or kind is bool or value is None or kind is bytes:
        return value
    if kind is float:
        return _number(value)
    if kind is int:
        if value < -(2**63):
            raise DecodeFault("an integer below -2**63 cannot be read")
        return value
    if kind is list:
        return [_from_javascript(member, undefined) for member in value]
    if kind is dict:
        # As in JSON, a member that is undefined is absent.
        return {
            key: _from_javascript(member, undefined)
            for key, member in value.items()
            if member is not UNDEFINED
        }
    if value is UNDEFINED:
        return undefined
    if kind is cbor2.CBORSimpleValue:
        raise DecodeFault(f"simple value {value.value} has no meaning here")
    return value


def _number(value: float) -> int | float:
    """JavaScript writes each integer of more than 32 bits as a float."""
    if not math.isfinite(value):
        raise DecodeFault("NaN and Infinity cannot be read")
    if -(2**31) <= value < 2**32 or abs(value) > 2**53 or not value.is_integer():
        return value
    return int(value)


JSON: Encoding = _JSON()
CBOR: Encoding = _CBOR()

ENCODINGS: dict[str, Encoding] = {"json": JSON, "cbor": CBOR}
"""Every encoding by its name."""
