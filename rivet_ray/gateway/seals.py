"""Tokens of connections that prove themselves (D1).

What a client shows is the host's token with a seal: a MAC over actor, connection and
token, under a key that every gateway of the deployment has. So a gateway knows what
was made up without asking anybody: nothing is looked up, claimed, started or stored
for it. Whether the token is still that of the connection only the host knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from rivet_ray.protocol import values
from rivet_ray.runtime import Directory

_PURPOSE = b"rivet_ray connection tokens"
SIZE = 16
"""Bytes of a seal; with a host's token of 16 it is the 32 that the documented wire has."""


class Seal:
    """Seals tokens and opens what it has sealed."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _PURPOSE, hashlib.sha256)

    def sealed(self, actor: str, connection: str, token: str) -> str:
        """A token as its client is given it: base64 of the token's bytes and of the MAC."""
        data = base64.b64decode(token)
        return base64.b64encode(data + self._mac(actor, connection, data)).decode()

    def opened(self, actor: str, connection: str, shown: str) -> str | None:
        """The token that a client shows for a connection; None for one that was made up."""
        try:
            data = base64.b64decode(shown, validate=True)
        except ValueError:
            return None
        token, mac = data[:-SIZE], data[-SIZE:]
        if not hmac.compare_digest(mac, self._mac(actor, connection, token)):
            return None
        if base64.b64encode(data).decode() != shown:
            return None  # The same bytes written in another way, which nobody was given.
        return base64.b64encode(token).decode()

    def _mac(self, actor: str, connection: str, token: bytes) -> bytes:
        text = values.encode([actor, connection, token])
        return hmac.digest(self._key, text, hashlib.sha256)[:SIZE]


async def seal_of(directory: Directory) -> Seal:
    """The seal of a deployment's gateways. Raises StoreError where its key cannot be read."""
    return Seal(await directory.secret())


async def opened_token(directory: Directory, actor: str, connection: str, shown: str) -> str | None:
    """See `Seal.opened`. Where there is no key yet, nobody was given a token. Raises StoreError."""
    secret = await directory.secret_if_made()
    return None if secret is None else Seal(secret).opened(actor, connection, shown)
