"""Halves of surrogate pairs in texts of JavaScript, which UTF-8 has no form for.

JavaScript makes one of `"🎉".slice(0, 1)`. It becomes U+FFFD, as wherever the web makes
UTF-8 of a text. The work is bounded: where there is more of it, nothing is replaced.
"""

from __future__ import annotations

import re

from rivet_ray.protocol.cbor_scan import BYTES, OPEN_LENGTH, TEXT, Scanner, Unscannable

MAX_ESCAPES = 16_384
"""How many escapes of a JSON text are looked at."""
LONGEST_RUN = 4_096
"""How many backslashes in a row are looked at."""

_SURROGATE = re.compile(rb"\\u[dD]([89abAB]|[c-fC-F])[\da-fA-F]{2}")
_LOW = re.compile(rb"\\u[dD][c-fC-F][\da-fA-F]{2}")
_HALF_IN_UTF_8 = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_ESCAPE = b"\\ufffd"
_REPLACEMENT = "\ufffd".encode()


def whole_json(data: bytes | str) -> bytes | None:
    r"""The same JSON with U+FFFD for each half, there as `\ud83c`; None without any."""
    try:
        text = data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError:
        return None
    whole: bytearray | None = None
    at = -1
    for _ in range(MAX_ESCAPES):
        at = text.find(b"\\u", at + 1)
        if at < 0:
            return None if whole is None else bytes(whole)
        found = _SURROGATE.match(text, at)
        if found is None or _is_escaped(text, at):
            continue
        if found[1] in b"89abAB" and _LOW.match(text, found.end()):
            at = found.end()  # the high half of a pair: at its low half, which is passed over
            continue
        whole = bytearray(text) if whole is None else whole
        whole[at : found.end()] = _ESCAPE
    return None


def _is_escaped(text: bytes, at: int) -> bool:
    """Whether the backslash there belongs to one before it."""
    before = text[max(0, at - LONGEST_RUN) : at]
    run = len(before) - len(before.rstrip(b"\\"))
    return run % 2 == 1 or run == LONGEST_RUN


def whole_cbor(data: bytes) -> bytes:
    """The same CBOR with U+FFFD for each half in a text; bytes stay as they are."""
    scanner = Scanner(data)
    whole = bytearray(data)
    try:
        while scanner.at < len(data):
            major, size, _ = scanner.head()
            if major in (BYTES, TEXT) and size != OPEN_LENGTH:
                content = scanner.take(size)
                if major == TEXT:
                    content = _HALF_IN_UTF_8.sub(_REPLACEMENT, content)
                    whole[scanner.at - size : scanner.at] = content
    except Unscannable:
        return data
    return bytes(whole)
