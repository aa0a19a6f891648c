"""An issuer of tokens: real keys, and a real HTTP server for their public halves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SECRET = "the secret of these tests, of 64 characters, so of more than 512 bits"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def private_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def token(
    key: Any = SECRET, algorithm: str = "HS256", *, kid: str | None = None, **claims: Any
) -> str:
    """A token for five minutes; a claim that is None is left out."""
    body = {"sub": "ann", "exp": int(time.time()) + 300, **claims}
    kept = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers=None if kid is None else {"kid": kid})


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: dict[str, Any], claims: Any, secret: bytes | None = None) -> str:
    """A token that no library would make."""
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    digest = b"" if secret is None else hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(digest)}"


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half, as a key set has it."""
    kinds = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    algorithm = next((name for kind, name in kinds.items() if isinstance(key, kind)), "EdDSA")
    fields = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    fields.pop("key_ops", None)
    return {**fields, **({} if kid is None else {"kid": kid}), **more}


class Issuer:
    """`with Issuer({"a": RSA_KEY}) as issuer: JWKS(issuer.url)`."""

    def __init__(self, **keys: Any) -> None:
        self.fetches = 0
        self.status = 200
        self.body: bytes | None = None
        self.hold: Callable[[], Any] | None = None
        """Called before each answer, in the server's thread."""
        self.set(*(jwk(key, kid) for kid, key in keys.items()))
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                if issuer.hold is not None:
                    issuer.hold()
                body = issuer.body or b""
                self.send_response(issuer.status)
                if issuer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    return

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    async def asked(self, times: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(5):
            while self.fetches < times:  # noqa: ASYNC110  (the server is in another thread)
                await asyncio.sleep(0)

    def set(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
