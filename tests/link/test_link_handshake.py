"""The handshake, without sockets: only who knows the secret gets through."""

from __future__ import annotations

import hmac

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_worlds import SECRET

from rivet_ray.link.faults import HandshakeFailed, VersionMismatch, WrongSecret
from rivet_ray.link.handshake import LIMIT, MAGIC, NONCE, VERSION, Handshake, Step, refusal


def gateway(secret: bytes = SECRET, version: int = VERSION) -> Handshake:
    return Handshake("gateway", secret, version=version)


def host(secret: bytes = SECRET, version: int = VERSION) -> Handshake:
    return Handshake("host", secret, version=version)


def meet(one: Handshake, other: Handshake) -> bytes:
    """Both hellos; the gateway's proof."""
    proof = one.receive(other.hello())
    assert other.receive(one.hello()) is None
    assert proof is not None
    return proof


def test_the_same_secret_opens_both_ends() -> None:
    one, other = gateway(), host()
    answer = other.receive(meet(one, other))
    assert other.done
    assert not one.done
    assert answer is not None
    assert one.receive(answer) is None
    assert one.done
    assert max(len(one.hello()), len(other.hello()), len(answer)) < LIMIT


def test_a_wrong_secret_gets_nothing_that_the_secret_made() -> None:
    one, other = gateway(b"another secret, long enough"), host()
    with pytest.raises(WrongSecret, match="need the same secret"):
        other.receive(meet(one, other))
    assert other.step is Step.FAILED
    with pytest.raises(WrongSecret, match="refused"):
        one.receive(refusal())


def test_a_host_with_a_wrong_secret_does_not_pass() -> None:
    one, other = gateway(), host()
    meet(one, other)
    rogue = host(b"another secret, long enough")
    rogue._nonce, rogue._mine = other._nonce, other.hello()
    rogue.receive(one.hello())
    with pytest.raises(WrongSecret):
        one.receive(rogue._proof("host"))


def test_an_end_that_is_reflected_to_itself_fails() -> None:
    for end in (gateway(), host()):
        with pytest.raises(HandshakeFailed, match=f"is a {end.role}, and so is this end"):
            end.receive(end.hello())
        assert end.step is Step.FAILED


def test_our_own_nonce_under_the_other_role_fails() -> None:
    one = gateway()
    mirror = Handshake("host", SECRET, nonce=one._nonce)
    with pytest.raises(HandshakeFailed, match="nonce"):
        one.receive(mirror.hello())


def test_a_proof_that_is_sent_back_to_its_maker_fails() -> None:
    one, other = gateway(), host()
    proof = meet(one, other)
    with pytest.raises(WrongSecret):
        one.receive(proof)


def test_a_recorded_handshake_is_worthless() -> None:
    one, other = gateway(), host()
    proof = meet(one, other)
    answer = other.receive(proof)
    assert answer is not None

    again = host()
    again.receive(one.hello())
    with pytest.raises(WrongSecret):
        again.receive(proof)

    caller = gateway()
    caller.receive(other.hello())
    with pytest.raises(WrongSecret):
        caller.receive(answer)


def test_another_hello_than_the_peer_sent_is_noticed() -> None:
    """Both hellos are in the proofs, so nobody between can change a byte of them."""
    one, other = gateway(), host()
    fields = msgspec.msgpack.decode(one.hello())
    changed = msgspec.msgpack.encode([*fields, "more"])
    proof = one.receive(other.hello())
    other.receive(changed)
    assert proof is not None
    with pytest.raises(WrongSecret):
        other.receive(proof)


def test_two_versions_say_so_on_both_sides() -> None:
    old, new = gateway(), host(version=VERSION + 1)
    with pytest.raises(
        VersionMismatch, match=rf"version {VERSION + 1} .* gateway speaks {VERSION}.*same release"
    ):
        old.receive(new.hello())
    with pytest.raises(VersionMismatch, match=rf"version {VERSION} .* host speaks {VERSION + 1}"):
        new.receive(old.hello())


def test_a_later_hello_may_look_otherwise_after_its_version() -> None:
    hello = msgspec.msgpack.encode([MAGIC, 9, {"anything": True}])
    with pytest.raises(VersionMismatch):
        host().receive(hello)


@pytest.mark.parametrize(
    "hello",
    [
        [MAGIC, VERSION],
        [MAGIC, VERSION, "king", b"n" * NONCE],
        [MAGIC, VERSION, "gateway", b""],
        [MAGIC, VERSION, "gateway", b"n" * (NONCE + 1)],
        [MAGIC, "1", "gateway", b"n" * NONCE],
        ["http", VERSION, "gateway", b"n" * NONCE],
        {"magic": MAGIC},
        None,
    ],
)
def test_a_wrong_hello_fails(hello: object) -> None:
    with pytest.raises(HandshakeFailed):
        host().receive(msgspec.msgpack.encode(hello))


@given(st.binary(max_size=LIMIT))
def test_random_bytes_fail_at_either_step(data: bytes) -> None:
    with pytest.raises(HandshakeFailed):
        host().receive(data)
    other = host()
    other.receive(gateway().hello())
    with pytest.raises(HandshakeFailed):
        other.receive(data)


@pytest.mark.parametrize("data", [b"\x91" * LIMIT, b"\x92\xa5proof\xc0", b"\x92\xa5proof\xc4\x00"])
def test_a_crooked_proof_fails(data: bytes) -> None:
    other = host()
    other.receive(gateway().hello())
    with pytest.raises(HandshakeFailed):
        other.receive(data)
    with pytest.raises(HandshakeFailed, match="failed; nothing more"):
        other.receive(data)


def test_nothing_belongs_to_it_once_it_is_done() -> None:
    one, other = gateway(), host()
    proof = meet(one, other)
    other.receive(proof)
    with pytest.raises(HandshakeFailed, match="done; nothing more"):
        other.receive(proof)


def test_proofs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    real = hmac.compare_digest

    def watch(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watch)
    one, other = gateway(), host()
    other.receive(meet(one, other))
    assert compared == [NONCE, NONCE, 32]
