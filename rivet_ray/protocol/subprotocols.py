"""What the opener of a WebSocket of the documented dialect asks for, as subprotocols.

`conn_seen`, `conn` and `conn_token` are ours: a client that counts events says how
far it got, and which connection it goes on with after it was cut off. So is
`integers.exact`, of a client that reads integers of 64 bits as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

import msgspec


class Resume(msgspec.Struct, frozen=True, gc=False):
    """A client that counts events, so that it may be cut off and come back."""

    connection: str | None = None
    """The connection that it goes on with; None opens one."""
    token: str | None = None
    """The last that it was given for that connection."""
    seen: int = 0
    """The number of the last event that reached it."""


class Connect(msgspec.Struct, frozen=True, gc=False):
    """What was asked for, None where left out; JSON is not read yet."""

    query: str | None
    encoding: str | None
    params: str | None
    resume: Resume | None = None
    exact: bool = False
    """The client reads integers of 64 bits as they are."""


_QUERY, _ENCODING, _PARAMS, _LAST = "query.", "encoding.", "conn_params.", "rivetkit"
_EXACT = "integers.exact"
_SEEN, _CONNECTION, _TOKEN = "conn_seen.", "conn.", "conn_token."
_KINDS = (_QUERY, _ENCODING, _PARAMS, _SEEN, _CONNECTION, _TOKEN)
_UNESCAPED = "-_.!~*'()"  # letters, digits and these: as encodeURIComponent has it
MOST_DIGITS = 16


def connect_protocols(
    query: str,
    encoding: str,
    params: str | None,
    resume: Resume | None = None,
    own: Sequence[str] = (),
    *,
    exact: bool = False,
) -> list[str]:
    """The subprotocols that a client offers; `query` and `params` are JSON texts.

    `own` are those of the user of a raw socket.

    Raises UnicodeEncodeError for a lone surrogate, as JavaScript raises URIError.
    """
    protocols = [_QUERY + quote(query, safe=_UNESCAPED), _ENCODING + encoding]
    if params is not None:
        protocols.append(_PARAMS + quote(params, safe=_UNESCAPED))
    if exact:
        protocols.append(_EXACT)
    if resume is not None:
        protocols.append(f"{_SEEN}{resume.seen}")
        if resume.connection is not None and resume.token is not None:
            protocols.append(_CONNECTION + quote(resume.connection, safe=_UNESCAPED))
            protocols.append(_TOKEN + quote(resume.token, safe=_UNESCAPED))
    protocols.append(_LAST)
    protocols.extend(own)
    return protocols


def parse_protocols(offered: Sequence[str]) -> Connect:
    """Read the subprotocols that a client offers. Never raises.

    Those after `rivetkit` are the raw socket user's own. The first of a kind counts.
    """
    found: dict[str, str] = {}
    exact = False
    for protocol in offered:
        if protocol == _LAST:
            break
        exact = exact or protocol == _EXACT
        for prefix in _KINDS:
            if protocol.startswith(prefix):
                found.setdefault(prefix, protocol[len(prefix) :])
    query, params, connection, token = (
        _decode_uri_component(found.get(prefix))
        for prefix in (_QUERY, _PARAMS, _CONNECTION, _TOKEN)
    )
    resume = parse_resume(found.get(_SEEN), connection, token)
    return Connect(query, found.get(_ENCODING), params, resume, exact)


def own_protocols(offered: Sequence[str]) -> list[str]:
    """What the user of a raw socket offers, behind the wire's own. Never raises."""
    return list(offered[offered.index(_LAST) + 1 :]) if _LAST in offered else []


def parse_resume(seen: str | None, connection: str | None, token: str | None) -> Resume | None:
    """None for a client that does not count events, or not in numbers. Never raises."""
    if seen is None or not (seen.isascii() and seen.isdigit()) or len(seen) > MOST_DIGITS:
        return None
    if connection is None or token is None:
        return Resume(seen=int(seen))
    return Resume(connection, token, int(seen))


def _decode_uri_component(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        # Left as it is: it is not JSON, so whoever reads it refuses it with the
        # right error. Replacement characters could name another actor.
        return text
