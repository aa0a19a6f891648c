"""`JWKS`: fetched off the event loop, once for all, renewed, bounded."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from auth_issuer import (
    EC_KEY,
    ED_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    SECRET,
    Issuer,
    b64,
    by_hand,
    jwk,
    public_pem,
    token,
)
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rivet_ray import Unauthorized
from rivet_ray.auth import JWKS, JWT
from rivet_ray.errors import AuthUnavailable


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def verifier(issuer: Issuer, time: Time | None = None, **options: Any) -> JWT:
    jwks = JWKS(issuer.url, clock=time or Time(), **options)
    return JWT(jwks, algorithms=["RS256", "RS384"])


async def reason(of: JWT, given: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await of.verify(given)
    found: str = caught.value.metadata["reason"]
    return found


A = token(RSA_KEY, "RS256", kid="a")
B = token(OTHER_RSA_KEY, "RS256", kid="b")


async def test_one_fetch_for_all() -> None:
    with Issuer(a=RSA_KEY) as issuer:
        of = verifier(issuer)
        assert issuer.fetches == 0, "not before it is needed"
        claims = await asyncio.gather(*(of.verify(A) for _ in range(50)))
        assert {each["sub"] for each in claims} == {"ann"}
        assert issuer.fetches == 1


async def test_the_event_loop_goes_on_while_a_fetch_hangs() -> None:
    """Neither other work nor tokens of known keys wait for a slow issuer."""
    go_on = threading.Event()
    with Issuer(a=RSA_KEY) as issuer:
        of = verifier(issuer)
        await of.verify(A)
        issuer.hold = lambda: go_on.wait(10)
        issuer.set(jwk(RSA_KEY, "a"), jwk(OTHER_RSA_KEY, "b"))
        waiting = asyncio.ensure_future(of.verify(B))
        try:
            await issuer.asked(2)
            assert await of.verify(A)
            assert not waiting.done()
        finally:
            go_on.set()
        assert (await waiting)["sub"] == "ann"


async def test_an_unknown_key_is_looked_for_at_once_and_then_rarely() -> None:
    time = Time()
    with Issuer(a=RSA_KEY) as issuer:
        of = verifier(issuer, time)
        await of.verify(A)
        issuer.set(jwk(RSA_KEY, "a"), jwk(OTHER_RSA_KEY, "b"))
        assert await of.verify(B), "a rotation is noticed with the first token"
        assert issuer.fetches == 2
        forged = [token(RSA_KEY, "RS256", kid=f"forged-{n}") for n in range(20)]
        for each in forged:
            assert await reason(of, each) == "unknown_key"
        assert issuer.fetches == 2
        time.now += 10
        found = await asyncio.gather(*(reason(of, each) for each in forged))
        assert set(found) == {"unknown_key"}
        assert issuer.fetches == 3


async def test_keys_are_renewed_and_withdrawn() -> None:
    time = Time()
    with Issuer(a=RSA_KEY) as issuer:
        of = verifier(issuer, time)
        await of.verify(A)
        issuer.set(jwk(OTHER_RSA_KEY, "b"))
        time.now += 599
        assert await of.verify(A)
        time.now += 1
        assert await reason(of, A) == "unknown_key"
        assert issuer.fetches == 2


async def test_an_issuer_that_is_down(caplog: pytest.LogCaptureFixture) -> None:
    """Known keys go on for a day; nobody is told that his good token is bad."""
    time = Time()
    with Issuer(a=RSA_KEY) as issuer, caplog.at_level(logging.WARNING):
        of = verifier(issuer, time)
        issuer.status = 500
        with pytest.raises(AuthUnavailable) as caught:
            await of.verify(A)
        assert (caught.value.status, caught.value.code) == (503, "auth_unavailable")
        with pytest.raises(AuthUnavailable):
            await of.verify(A)
        assert issuer.fetches == 1, "it is left in peace for a while"
        issuer.status = 200
        time.now += 10
        assert await of.verify(A)
        issuer.status = 500
        time.now += 86_000
        assert await of.verify(A)
        with pytest.raises(AuthUnavailable):
            await of.verify(B)
        time.now += 400
        with pytest.raises(AuthUnavailable):
            await of.verify(A)
    assert "cannot be had" in caplog.text


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"keys": 7}', b'{"keys": []}', b"x" * 1_048_577, b"[" * 100_000],
    ids=range(7),
)
async def test_what_is_no_key_set(body: bytes) -> None:
    with Issuer(a=RSA_KEY) as issuer:
        issuer.body = body
        with pytest.raises(AuthUnavailable):
            await verifier(issuer).verify(A)


async def test_no_redirect_is_followed() -> None:
    with Issuer(a=RSA_KEY) as issuer:
        issuer.status = 302
        with pytest.raises(AuthUnavailable):
            await verifier(issuer).verify(A)
        assert issuer.fetches == 1


async def test_an_issuer_that_never_answers_costs_a_bounded_time() -> None:
    go_on = threading.Event()
    with Issuer(a=RSA_KEY) as issuer:
        issuer.hold = lambda: go_on.wait(10)
        try:
            async with asyncio.timeout(5):
                with pytest.raises(AuthUnavailable):
                    await verifier(issuer, timeout=0.05).verify(A)
        finally:
            go_on.set()


async def test_who_gives_up_leaves_nobody_behind() -> None:
    """The one that fetches is cancelled (its `on_auth` ran out of time); the next one fetches."""
    go_on = threading.Event()
    with Issuer(a=RSA_KEY) as issuer:
        issuer.hold = lambda: go_on.wait(10)
        of = verifier(issuer)
        first = asyncio.ensure_future(of.verify(A))
        await issuer.asked(1)
        second = asyncio.ensure_future(of.verify(A))
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()
        assert (await second)["sub"] == "ann"
        assert first.cancelled()


def test_it_serves_one_event_loop_after_another() -> None:
    with Issuer(a=RSA_KEY) as issuer:
        of = verifier(issuer)

        async def both() -> None:
            await asyncio.gather(of.verify(A), of.verify(A))

        for _ in range(2):
            asyncio.run(both())
        assert issuer.fetches == 1


async def test_which_key_may_verify_what() -> None:
    """By kind, curve, `alg` and `use`: none is used for what it was not made for."""
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    p384 = ec.generate_private_key(ec.SECP384R1())
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}
    with Issuer() as issuer:
        issuer.set(
            jwk(RSA_KEY, "a", alg="RS256"),
            jwk(RSA_KEY, "encrypts", use="enc"),
            jwk(RSA_KEY, "signs", key_ops=["sign"]),
            jwk(small, "small"),
            jwk(EC_KEY, "curve"),
            {**jwk(EC_KEY, "broken"), "x": "!!"},
            secret,
            {"kid": "no kind"},
        )
        of = verifier(issuer)
        assert await of.verify(A)
        assert await reason(of, token(RSA_KEY, "RS384", kid="a")) == "unknown_key"
        for kid in ("encrypts", "signs", "small", "curve", "broken", "secret", "no kind"):
            assert await reason(of, token(RSA_KEY, "RS256", kid=kid)) == "unknown_key"
        curves = JWT(JWKS(issuer.url), algorithms=["ES256", "ES384"])
        assert await curves.verify(token(EC_KEY, "ES256", kid="curve"))
        assert await reason(curves, token(p384, "ES384", kid="curve")) == "unknown_key"
        agrees = {"kty": "OKP", "crv": "X25519", "x": b64(bytes(32)), "kid": "agrees"}
        issuer.set(jwk(ED_KEY, "signs", alg="EdDSA"), agrees)
        edwards = JWT(JWKS(issuer.url), algorithms=["EdDSA"])
        assert await edwards.verify(token(ED_KEY, "EdDSA", kid="signs"))
        for kid in ("agrees", "curve"):
            assert await reason(edwards, token(ED_KEY, "EdDSA", kid=kid)) == "unknown_key"


async def test_a_token_without_a_kid() -> None:
    """Passes where one key suits; where several do, none is guessed."""
    given = token(RSA_KEY, "RS256")
    with Issuer(a=RSA_KEY, curve=EC_KEY) as issuer:
        assert await verifier(issuer).verify(given)
        issuer.set(jwk(RSA_KEY, "a"), jwk(OTHER_RSA_KEY, "b"))
        assert await reason(verifier(issuer), given) == "unknown_key"


async def test_a_public_key_is_no_secret() -> None:
    """Algorithm confusion with a key that anybody can fetch."""
    with Issuer(a=RSA_KEY) as issuer:
        forged = by_hand({"alg": "HS256", "kid": "a"}, {"sub": "ann"}, public_pem(RSA_KEY))
        assert await reason(verifier(issuer), forged) == "invalid_token"
        assert await reason(verifier(issuer), token(SECRET, kid="a")) == "invalid_token"
        assert issuer.fetches == 0
        with pytest.raises(ValueError, match="public keys"):
            JWT(JWKS(issuer.url), algorithms=["HS256"])


@pytest.mark.parametrize(
    ("url", "options", "fine"),
    [
        ("https://id.example.com/jwks", {}, True),
        ("http://127.0.0.1:1/jwks", {}, True),
        ("http://localhost/jwks", {}, True),
        ("http://id.example.com/jwks", {"allow_http": True}, True),
        ("http://id.example.com/jwks", {}, False),
        ("http://127.0.0.1.example.com/jwks", {}, False),
        ("file:///etc/keys", {}, False),
        ("id.example.com", {}, False),
    ],
)
def test_keys_come_over_a_line_that_nobody_can_change(
    url: str, options: dict[str, Any], fine: bool
) -> None:
    if fine:
        JWKS(url, **options)
    else:
        with pytest.raises(ValueError, match=r"https|no URL"):
            JWKS(url, **options)
