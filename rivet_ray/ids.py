"""How actors, connections and owners are named."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import uuid
from collections.abc import Sequence

Key = tuple[str, ...]
"""An actor's key: an ordered list of strings; `()` is a key like any other."""

DEFAULT_NAMESPACE = "default"

MAX_KEY_PART = 128
"""The longest part of a key, in UTF-16 code units (as JavaScript counts)."""


def code_units(text: str) -> int:
    """How long JavaScript says that a text is: in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def actor_id(namespace: str, name: str, key: Sequence[str], generation: int = 1) -> str:
    """The id of an actor: 16 hex digits that depend on its name and key alone.

    In the default namespace the id is the one the original computes, so ids
    written down by its users stay valid. A re-creation after destroy appends
    `-2`, `-3` and so on, its `generation`.
    """
    parts: list[object] = [name, list(key)]
    if namespace != DEFAULT_NAMESPACE:
        parts.insert(0, namespace)
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return digest if generation == 1 else f"{digest}-{generation}"


def connection_id() -> str:
    """A new connection id, a random UUID."""
    return str(uuid.uuid4())


def connection_token() -> str:
    """A new secret that proves a connection is the caller's: 16 bytes, base64.

    A gateway adds a seal of as many.
    """
    return base64.b64encode(secrets.token_bytes(16)).decode()


def owner_token() -> str:
    """A new random name for one ownership of one actor (the fence's second part)."""
    return secrets.token_hex(8)


def key_from(value: str | Sequence[str] | None) -> Key:
    """The key that a caller means: a string is a key of one part, None is `()`."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple(value)


def escape_key(key: Sequence[str]) -> str:
    r"""A key as one string: parts joined by `:`, with `\` and `:` escaped by `\`."""
    return ":".join(part.replace("\\", "\\\\").replace(":", "\\:") for part in key)
