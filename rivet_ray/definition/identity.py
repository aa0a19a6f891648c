"""Who a caller is: what stays the same when a token is renewed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rivet_ray.definition.user_code import call
from rivet_ray.protocol import values

if TYPE_CHECKING:
    from rivet_ray.definition.compiled import ActorDefinition

SUBJECT, ISSUER = "sub", "iss"
LONGEST = 128
"""Bytes of an identity that is kept as it is; of a longer one the hash is."""
KEY_ID = "key_id"
"""What `rivet_ray.auth.APIKeys` adds to a mapping: which key it was."""


def identity_in(auth: object) -> str | None:
    """The identity that verified claims or an API key give, None where there is none.

    That is the issuer with the subject (`iss`, `sub`), or the id of the key (`key_id`),
    of a mapping or of an object with these attributes.
    """
    subject = _member(auth, SUBJECT)
    if _names_somebody(subject):
        return _text(SUBJECT, _member(auth, ISSUER), subject)
    key = _member(auth, KEY_ID)
    return _text(KEY_ID, key) if _names_somebody(key) else None


def identity_of(definition: ActorDefinition, auth: bytes | None) -> str | None:
    """Who a caller of an actor is, by the result of `on_auth`, as the port carries it.

    Raises what `caller_identity` raises, and TypeError for what is no identity.
    """
    if "caller_identity" in definition.hooks:
        actor = definition.actor
        found: object = call(actor, actor.caller_identity, definition.decode("Auth", auth))
    else:
        # Of all claims, also those that the actor's own type leaves out.
        found = None if auth is None else identity_in(values.decode(auth))
    if found is None:
        return None
    if not isinstance(found, str) or not found:
        raise TypeError(
            f"caller_identity returned {found!r}; return a text, or None for a caller who "
            "has no identity"
        )
    data = found.encode(errors="surrogatepass")
    if len(data) > LONGEST or values.sendable(found) != found:
        found = hashlib.sha256(data).hexdigest()
    return f"caller:{found}"


def _member(auth: object, name: str) -> object:
    if isinstance(auth, Mapping):
        return cast("Mapping[object, object]", auth).get(name)
    return getattr(auth, name, None)


def _names_somebody(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def _text(*parts: Any) -> str:
    """The parts as one text, which no other parts give."""
    return msgspec.json.encode(parts, enc_hook=str).decode()
