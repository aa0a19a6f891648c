"""Idempotency keys: at most one effect and one answer for each (promise C4).

A call with a key has an entry, scoped by the identity of the caller, that lives in
the actor's snapshot and so shares the fate of the call's effect:

* while the call runs, the entry is only in memory. The first commit of the
  actor in this time may hold a part of the call's changes, so it carries the
  entry too, as *begun*;
* when the call ends, the entry with its answer goes into the commit that holds
  the rest of its effect.

After a crash the store therefore tells what happened: no entry, and nothing of
the call was ever saved, it may run; an answer, and that is the answer; a *begun*
entry, and a part of the effect may be there, so it never runs again and every
caller is told *interrupted*, outcome unknown.

**Bounds.** Entries count in bytes, each for `OVERHEAD` and its answer, against the share
of their caller and the bound of the actor. Nothing leaves before its day is over, so a
caller whose share is full gets no new keys, and others do. An answer that is too long, or
has no room, is not kept: the entry then says that the call took effect, which is enough
for it never to run again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice, takewhile

import msgspec

from rivet_ray.budget import KIB, MIB, Budget
from rivet_ray.errors import (
    AnswerNotKept,
    IdempotencyKeyRefused,
    IdempotencyKeyReused,
    Interrupted,
    Outcome,
    TooManyKeys,
)
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Call, Failed, Reply
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.ledger import Ledger
from rivet_ray.runtime.turn import Turn

PART = "key/"
MAX_AGE = 24 * 3600.0
"""Seconds for which an answer is kept. Entries leave by age only."""
ANONYMOUS = b""
"""The scope that all callers without an identity share."""
OVERHEAD = 512
"""Bytes that an entry counts for beside its answer."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How much of their idempotency keys actors remember. Sizes are bytes."""

    size: int = 32 * MIB
    """Of the keys of one actor, their answers among them."""
    size_per_caller: int = 4 * MIB
    """Of those of one caller: room for 8,000 keys with short answers."""
    answer_size: int = 64 * KIB
    """The longest answer that is kept. A repeated call is told of a longer one that it is
    not kept, and that the call took effect."""


class Entry(msgspec.Struct, array_like=True):
    """A key's record, as it is saved."""

    fingerprint: bytes
    """Of the action and its arguments."""
    at: float
    """When the call began, in seconds since the Unix epoch."""
    answer: Reply | Failed | None = None
    """None while the call has begun and not ended."""
    caller: bytes = b""
    """Of whose share it is: a digest of the caller's scope."""

    @property
    def cost(self) -> int:
        return OVERHEAD + _size(self.answer)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def entry_of(saved: bytes) -> Entry:
    """A key of a snapshot. Raises msgspec.DecodeError."""
    return _decoder.decode(saved)


class Keys:
    """The idempotency keys of one actor."""

    __slots__ = ("_budget", "_entries", "_ledger", "_limits", "_running", "_shares")

    def __init__(self, ledger: Ledger, limits: KeyLimits, host: Budget) -> None:
        self._ledger = ledger
        self._limits = limits
        self._budget = host
        """The host's, until there are keys."""
        self._entries: dict[str, Entry] = {}
        self._running: dict[str, list[Turn]] = {}
        self._shares: dict[bytes, Budget] | None = None

    def load(self, part: str, value: bytes) -> None:
        """Take over an entry from the snapshot."""
        entry = self._entries[part] = entry_of(value)
        self._share(entry.caller).hold(entry.cost)

    def loaded(self) -> None:
        """Everything is taken over: the oldest first, as they expire."""
        self._entries = dict(sorted(self._entries.items(), key=lambda item: item[1].at))

    def forget(self) -> None:
        """The actor has left memory: the host holds nothing of it."""
        if self._shares is not None:
            self._budget.end()
            self._shares = None

    def _share(self, caller: bytes) -> Budget:
        """The share of a caller, who is known by a digest."""
        if self._shares is None:
            self._shares = {}
            self._budget = Budget("idempotency keys of an actor", self._limits.size, self._budget)
        share = self._shares.get(caller)
        if share is None:
            name, limit = "idempotency keys of a caller", self._limits.size_per_caller
            share = self._shares[caller] = Budget(name, limit, self._budget)
        return share

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, turn: Turn, call: Call, caller: Caller, now: float) -> Reply | Failed | None:
        """Whether the call has an answer already.

        None means that the turn is to run, or, when `turn.joined` is set, that
        it waits for another with the same key. Raises IdempotencyKeyRefused,
        IdempotencyKeyReused, Interrupted, TooManyKeys.
        """
        scope = _scope(turn, caller)
        part = _part(call, scope)
        fingerprint = _fingerprint(call)
        entry = self._entries.get(part)
        if entry is None:
            whose = hashlib.sha256(scope).digest()[:8]
            self._make_room(whose, now)
            self._entries[part] = Entry(fingerprint, now, None, whose)
            self._running[part] = [turn]
            turn.key_part = part
            return None
        if entry.fingerprint != fingerprint:
            raise IdempotencyKeyReused(
                "The idempotency key was used with another action or other arguments.",
                outcome=Outcome.NOT_STARTED,
            )
        if entry.answer is not None:
            return entry.answer
        if part in self._running:
            turn.joined = True
            self._running[part].append(turn)
            return None
        raise Interrupted(
            "A crash interrupted this call after a part of its changes was saved; "
            "it is not run again.",
            outcome=Outcome.UNKNOWN,
        )

    def _make_room(self, caller: bytes, now: float) -> None:
        """Take room for a new entry, once those whose time is over have left."""
        # Oldest first, since entries are only ever added with the time going on.
        for part, entry in list(islice(self._entries.items(), 2)):
            self._expire(part, entry, now)
        if self._share(caller).exceeded(OVERHEAD) is not None:
            self._expire_all(now)
        full = self._share(caller).exceeded(OVERHEAD)
        if full is not None:
            full.refuse()
            raise TooManyKeys(
                f"The {full.name} of the last {MAX_AGE / 3600:g} hours take {full.limit} bytes, "
                "and no more are remembered. Call without a key, or try again later.",
                outcome=Outcome.NOT_STARTED,
            )
        self._share(caller).hold(OVERHEAD)

    def _expire_all(self, now: float) -> None:
        old = takewhile(lambda item: now - item[1].at > MAX_AGE, self._entries.items())
        for part, entry in list(old):  # Not all: each refused call comes through here.
            self._expire(part, entry, now)

    def _expire(self, part: str, entry: Entry, now: float) -> None:
        if now - entry.at > MAX_AGE and part not in self._running:
            self._remove(part)

    def _remove(self, part: str) -> None:
        entry = self._entries.pop(part)
        self._share(entry.caller).give_back(entry.cost)
        self._ledger.delete(part)

    def before_commit(self) -> None:
        """A commit is made while calls run: it may hold a part of their effect."""
        for part, turns in self._running.items():
            if turns[0].entered:
                self._ledger.put(part, _encoder.encode(self._entries[part]))

    def amend(self, part: str, answer: Failed) -> None:
        """The answer that was kept could not be given; keep what was told instead."""
        if part in self._entries:
            self._keep(part, answer)

    def finish(self, turn: Turn, answer: Reply | Failed) -> list[Turn]:
        """Keep the answer; the turns that waited for it, to be given it too."""
        part = turn.key_part
        assert part is not None
        waiting = self._running.pop(part)
        if isinstance(answer, Failed) and answer.failure.outcome == Outcome.NOT_STARTED.value:
            self._remove(part)  # Nothing ran, so the key is free again.
        else:
            self._keep(part, answer)
        return [other for other in waiting if other is not turn]

    def _keep(self, part: str, answer: Reply | Failed) -> None:
        entry = self._entries[part]
        share = self._share(entry.caller)
        share.give_back(_size(entry.answer))
        size = _size(answer)
        if size > self._limits.answer_size or not share.fits(size):
            answer = _not_kept(answer, size)
            share.hold(_size(answer))
        entry.answer = answer
        self._ledger.put(part, _encoder.encode(entry))


def _size(answer: Reply | Failed | None) -> int:
    """Bytes of an answer."""
    if answer is None:
        return 0
    if isinstance(answer, Reply):
        return len(answer.output or b"")
    failure = answer.failure
    return len(failure.code) + len(failure.message) + len(failure.metadata or b"")


def _not_kept(answer: Reply | Failed, size: int) -> Failed:
    """What repeated calls are told in place of an answer."""
    outcome = Outcome.TOOK_EFFECT
    if isinstance(answer, Failed) and answer.failure.outcome is not None:
        outcome = Outcome(answer.failure.outcome)
    gone = AnswerNotKept(
        f"The first call with this key has ended; its answer of {size} bytes was too long to "
        "be kept. Read the state for what it did.",
        outcome=outcome,
    )
    return Failed(answer.call, failure_of(gone, outcome, "idempotency keys"))


def readdressed(answer: Reply | Failed, call: int) -> Reply | Failed:
    """The same answer to another call."""
    return msgspec.structs.replace(answer, call=call)


def _scope(turn: Turn, caller: Caller) -> bytes:
    definition = turn.instance.definition
    if caller.identity is not None:
        return caller.identity.encode()
    if definition.anonymous_keys:
        return ANONYMOUS
    raise IdempotencyKeyRefused(
        "An idempotency key belongs to its caller, and this caller has no identity. Return "
        "claims with `sub` from on_auth, define caller_identity, or set "
        f"anonymous_keys = True in {definition.actor.__qualname__}.",
        outcome=Outcome.NOT_STARTED,
    )


def _part(call: Call, scope: bytes) -> str:
    digest = hashlib.sha256(len(scope).to_bytes(8, "big") + scope + (call.key or "").encode())
    return PART + digest.hexdigest()[:32]


def _fingerprint(call: Call) -> bytes:
    return hashlib.sha256(values.encode([call.action, call.arguments])).digest()[:16]
