"""The handshake: two peers prove to each other that they know the cluster secret.

    gateway                                     host
       hello: version, role, nonce      ->
                                        <-      hello: version, role, nonce
       proof                            ->
                                        <-      proof, or refused

Both hellos go out at once. A proof is an HMAC-SHA256 under the secret over the
role of who makes it and both hellos as they went over the wire. So it holds for
these two nonces alone (a recorded one is worthless), for one role (one that is
sent back to its maker is wrong), and for the version both named. The host
proves itself last: nobody gets anything made with the secret from it before
they have shown that they know the secret.

This is a state machine from payloads to payloads; it does no I/O and keeps no
time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from enum import Enum
from typing import Literal

import msgspec

from rivet_ray.link.faults import HandshakeFailed, VersionMismatch, WrongSecret

MAGIC = "rivet-link"

VERSION = 5
"""Of the link and of the messages of the port. Equal, or no link."""

NONCE = 32
LIMIT = 1024
"""The longest frame before the peer is proven, in bytes."""

Role = Literal["gateway", "host"]


class Start(msgspec.Struct, frozen=True, array_like=True):
    """What the hello of every version begins with."""

    magic: str
    version: int


class Hello(Start, frozen=True):
    """The hello of this version."""

    role: Role
    nonce: bytes


class Proof(msgspec.Struct, frozen=True, array_like=True, tag="proof"):
    """Shows that its sender knows the secret."""

    mac: bytes


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The gateway's proof is wrong. The host closes after it."""


class Step(Enum):
    """What a handshake waits for."""

    HELLO = "hello"
    PROOF = "proof"
    DONE = "done"
    FAILED = "failed"


class Handshake:
    """One end of a handshake. Payloads go in and out; frames are the caller's business."""

    __slots__ = ("_mine", "_nonce", "_secret", "_theirs", "_version", "role", "step")

    def __init__(
        self, role: Role, secret: bytes, *, version: int = VERSION, nonce: bytes | None = None
    ) -> None:
        """`version` and `nonce` are for tests."""
        self.role: Role = role
        self._secret = secret
        self._version = version
        self._nonce = nonce or secrets.token_bytes(NONCE)
        self._mine = _encoder.encode(Hello(MAGIC, version, role, self._nonce))
        self._theirs = b""
        self.step = Step.HELLO

    @property
    def done(self) -> bool:
        """Whether both have proven themselves; only then may anything else be believed."""
        return self.step is Step.DONE

    def hello(self) -> bytes:
        """What this end sends first, without waiting for the peer."""
        return self._mine

    def receive(self, payload: bytes) -> bytes | None:
        """What to send for what has come, if anything.

        Raises HandshakeFailed, VersionMismatch or WrongSecret; nothing is
        accepted after that. WrongSecret of a host is told to the peer: see `refusal`.
        """
        step, self.step = self.step, Step.FAILED
        match step:
            case Step.HELLO:
                self._check_hello(payload)
                self.step = Step.PROOF
                return self._proof(self.role) if self.role == "gateway" else None
            case Step.PROOF:
                self._check_proof(payload)
                self.step = Step.DONE
                return self._proof(self.role) if self.role == "host" else None
            case Step.DONE | Step.FAILED:
                raise HandshakeFailed(f"The handshake is {step.value}; nothing more belongs to it.")

    def _check_hello(self, payload: bytes) -> None:
        try:
            start = _start.decode(payload)
        except (ValueError, RecursionError) as fault:
            raise HandshakeFailed("The peer is no end of a link.") from fault
        if start.magic != MAGIC:
            raise HandshakeFailed("The peer is no end of a link.")
        if start.version != self._version:
            raise VersionMismatch(
                f"The peer speaks version {start.version} of the link, this {self.role} "
                f"speaks {self._version}. Run the same release of rivet_ray on every node."
            )
        try:
            hello = _hello.decode(payload)
        except (ValueError, RecursionError) as fault:
            raise HandshakeFailed(f"The peer's hello cannot be read: {fault}") from fault
        if hello.role == self.role:
            raise HandshakeFailed(f"The peer is a {hello.role}, and so is this end.")
        if len(hello.nonce) != NONCE or hmac.compare_digest(hello.nonce, self._nonce):
            raise HandshakeFailed("The peer's nonce is not random.")
        self._theirs = payload

    def _check_proof(self, payload: bytes) -> None:
        try:
            answer = _answer.decode(payload)
        except (ValueError, RecursionError) as fault:
            raise HandshakeFailed(f"The peer's proof cannot be read: {fault}") from fault
        if isinstance(answer, Refused):
            raise WrongSecret(f"The peer refused this {self.role}'s proof. {_CURE}")
        expected = self._mac("host" if self.role == "gateway" else "gateway")
        if not hmac.compare_digest(answer.mac, expected):
            raise WrongSecret(f"The peer's proof is wrong. {_CURE}")

    def _proof(self, role: Role) -> bytes:
        return _encoder.encode(Proof(self._mac(role)))

    def _mac(self, maker: Role) -> bytes:
        hellos = (self._mine, self._theirs)
        gateway, host = hellos if self.role == "gateway" else reversed(hellos)
        text = b"%s proof of %s\0" % (MAGIC.encode(), maker.encode())
        parts = text + hashlib.sha256(gateway).digest() + hashlib.sha256(host).digest()
        return hmac.digest(self._secret, parts, "sha256")


def refusal() -> bytes:
    """What a host sends for a wrong proof, before it closes."""
    return _encoder.encode(Refused())


_CURE = "Gateways and hosts of a cluster need the same secret."
_encoder = msgspec.msgpack.Encoder()
_start = msgspec.msgpack.Decoder(Start)
_hello = msgspec.msgpack.Decoder(Hello)
_answer = msgspec.msgpack.Decoder(Proof | Refused)
