"""`JWT`: what passes, and every way in which a token must not."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from auth_issuer import (
    EC_KEY,
    ED_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    SECRET,
    b64,
    by_hand,
    private_pem,
    public_pem,
    token,
)
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rivet_ray import Outcome, Unauthorized
from rivet_ray.auth import JWT
from rivet_ray.testing import unit_request

NOW = int(time.time())


async def refused(verifier: JWT, given: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await verifier.verify(given)
    error = caught.value
    assert (error.code, error.status) == ("unauthorized", 401)
    assert error.outcome is Outcome.NOT_STARTED
    assert not given or given not in error.message
    reason: str = error.metadata["reason"]
    return reason


HS = JWT(SECRET, algorithms=["HS256"])
RS = JWT(public_pem(RSA_KEY), algorithms=["RS256", "PS256"])
ES = JWT(EC_KEY.public_key(), algorithms=["ES256"])
ED = JWT(public_pem(ED_KEY), algorithms=["EdDSA"])
STRICT = JWT(
    SECRET,
    algorithms=["HS256"],
    audience="chat",
    issuer="https://id.example.com",
    required=["exp", "sub"],
)
GOOD = {"aud": "chat", "iss": "https://id.example.com"}


@pytest.mark.parametrize(
    ("verifier", "key", "algorithm"),
    [
        (HS, SECRET, "HS256"),
        (RS, RSA_KEY, "RS256"),
        (RS, RSA_KEY, "PS256"),
        (ES, EC_KEY, "ES256"),
        (ED, ED_KEY, "EdDSA"),
    ],
    ids=["HS256", "RS256", "PS256", "ES256", "EdDSA"],
)
async def test_a_good_token(verifier: JWT, key: Any, algorithm: str) -> None:
    """Its claims are what becomes `conn.auth`."""
    claims = await verifier.verify(token(key, algorithm, role="admin"))
    assert (claims["sub"], claims["role"]) == ("ann", "admin")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, None),
        ({"aud": ["other", "chat"]}, None),
        ({"exp": NOW - 1}, "expired_token"),
        ({"exp": None}, "missing_claim"),
        ({"sub": None}, "missing_claim"),
        ({"nbf": NOW + 36_000}, "token_not_yet_valid"),
        ({"iat": NOW + 36_000}, "token_not_yet_valid"),
        ({"aud": "mail"}, "wrong_audience"),
        ({"aud": None}, "missing_claim"),
        ({"iss": "https://evil.example.com"}, "wrong_issuer"),
        ({"iss": None}, "missing_claim"),
        ({"exp": "tomorrow"}, "invalid_token"),
        ({"exp": 1e400}, "invalid_token"),
    ],
    ids=str,
)
async def test_claims(claims: dict[str, Any], reason: str | None) -> None:
    given = token(**{**GOOD, **claims})
    if reason is None:
        assert (await STRICT.verify(given))["sub"] == "ann"
    else:
        assert await refused(STRICT, given) == reason


async def test_a_token_for_an_audience_needs_one_to_be_named() -> None:
    """A token that was made for another service is none for us by omission."""
    assert await refused(HS, token(aud="mail")) == "wrong_audience"


async def test_leeway() -> None:
    late = JWT(SECRET, algorithms=["HS256"], leeway=30)
    now = int(time.time())
    assert await late.verify(token(exp=now - 10))
    assert await refused(late, token(exp=now - 60)) == "expired_token"


CLAIMS = {"sub": "ann", "exp": NOW + 36_000}


@pytest.mark.parametrize(
    "given",
    [
        by_hand({"alg": "none"}, CLAIMS),
        by_hand({"alg": "None"}, CLAIMS),
        by_hand({"alg": "none"}, CLAIMS, SECRET.encode()),
        by_hand({}, CLAIMS, SECRET.encode()),
        by_hand({"alg": ["HS256"]}, CLAIMS, SECRET.encode()),
        by_hand({"alg": "HS256"}, CLAIMS, b"x" * 64),
        by_hand({"alg": "HS256"}, CLAIMS),
        by_hand({"alg": "HS256"}, [1], SECRET.encode()),
        by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, CLAIMS, SECRET.encode()),
        by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, CLAIMS, SECRET.encode()),
        by_hand({"alg": "HS256", "kid": 7}, CLAIMS, SECRET.encode()),
        token(SECRET, "HS512"),
        token(RSA_KEY, "RS256"),
        "",
        "a.b",
        "a.b.c",
        "é.é.é",
        "\ud800.a.b",
        "[" * 5000,
        f"{b64(b'[' * 9000)}.e30.e30",
    ],
    ids=range(20),
)
async def test_what_is_no_token_of_ours(given: str) -> None:
    """No algorithm, another algorithm, another key, another form."""
    assert await refused(HS, given) == "invalid_token"


async def test_a_changed_token() -> None:
    head, body, signature = token().split(".")
    forged = b64(json.dumps({**CLAIMS, "role": "admin"}).encode())
    assert await refused(HS, f"{head}.{forged}.{signature}") == "invalid_token"
    assert await refused(HS, f"{head}.{body}.") == "invalid_token"


@pytest.mark.parametrize("verifier", [RS, ES], ids=["RS256", "ES256"])
async def test_a_public_key_is_no_secret(verifier: JWT) -> None:
    """Algorithm confusion: a token signed with the public key as if it were a secret."""
    for key in (RSA_KEY, EC_KEY):
        pem = public_pem(key)
        for algorithm in ("HS256", "RS256", "ES256"):
            given = by_hand({"alg": algorithm}, CLAIMS, pem)
            assert await refused(verifier, given) == "invalid_token"


async def test_somebody_elses_key() -> None:
    assert await refused(RS, token(OTHER_RSA_KEY, "RS256")) == "invalid_token"
    brings_its_own = jwt.encode(
        CLAIMS,
        OTHER_RSA_KEY,
        "RS256",
        headers={"jku": "https://evil.example.com", "jwk": {"kty": "RSA"}, "x5u": "https://evil"},
    )
    assert await refused(RS, brings_its_own) == "invalid_token"


@pytest.mark.parametrize(
    ("key", "algorithms", "says"),
    [
        (SECRET, ["none"], "none"),
        (SECRET, [], "as a list"),
        (SECRET, "HS256", "as a list"),
        (public_pem(RSA_KEY), ["RS256", "HS256"], "different kinds"),
        (public_pem(RSA_KEY), ["HS256"], "no key for HS256"),
        (public_pem(EC_KEY), ["RS256"], "no key for RS256"),
        (public_pem(RSA_KEY), ["ES256"], "no key for ES256"),
        (EC_KEY.public_key(), ["ES384"], "no key for ES384"),
        (private_pem(RSA_KEY), ["RS256"], "public key"),
        (ec.generate_private_key(ec.SECP256R1()), ["ES256"], "public key"),
        ("short", ["HS256"], "token_bytes"),
        ("x" * 40, ["HS512"], "token_bytes"),
        (
            rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(),
            ["RS256"],
            "2048 bits",
        ),
        ("not a key", ["RS256"], "no key for RS256"),
    ],
    ids=range(14),
)
def test_what_could_not_be_safe_is_refused_at_once(key: Any, algorithms: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        JWT(key, algorithms=algorithms)


# --- Where the token is ----------------------------------------------------------------


@dataclass
class Params:
    token: str = ""


GIVEN = token()


@pytest.mark.parametrize(
    ("headers", "params"),
    [
        ({}, {"authToken": GIVEN}),
        ({}, {"token": GIVEN}),
        ({}, Params(GIVEN)),
        ({"Authorization": f"Bearer {GIVEN}"}, None),
        ({"authorization": f"bearer  {GIVEN} "}, {"other": 1}),
        ({"Authorization": f"Bearer {GIVEN}"}, Params()),
        ({"Authorization": "Bearer worse"}, {"token": GIVEN}),
        ({"Authorization": f"Bearer {GIVEN}"}, ["a list"]),
    ],
    ids=range(8),
)
async def test_where_it_is_found(headers: dict[str, str], params: Any) -> None:
    assert (await HS.authenticate(unit_request(headers), params))["sub"] == "ann"


@pytest.mark.parametrize(
    ("headers", "params", "reason"),
    [
        ({}, None, "missing_token"),
        ({}, {}, "missing_token"),
        ({}, {"token": None}, "missing_token"),
        ({"Authorization": GIVEN}, None, "missing_token"),
        ({"Authorization": f"Basic {GIVEN}"}, None, "missing_token"),
        ({"Authorization": "Bearer "}, None, "missing_token"),
        ({"X-API-Key": GIVEN}, None, "missing_token"),
        ({}, {"token": 7}, "invalid_token"),
        ({}, {"token": {"token": GIVEN}}, "invalid_token"),
        ({}, {"token": "x" * 20_000}, "invalid_token"),
        (
            [("authorization", f"Bearer {GIVEN}"), ("authorization", "Bearer x")],
            None,
            "invalid_token",
        ),
    ],
    ids=range(11),
)
async def test_where_it_is_not(headers: Any, params: Any, reason: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        await HS.authenticate(unit_request(headers), params)
    assert caught.value.metadata == {"reason": reason}


async def test_other_names() -> None:
    own = JWT(
        SECRET, algorithms=["HS256"], params=["jwt"], headers=["X-Token"], cookies=["session"]
    )
    for headers, params in (
        ({}, {"jwt": GIVEN}),
        ({"X-Token": GIVEN}, None),
        ({"Cookie": f"a=b; session={GIVEN}"}, None),
    ):
        assert await own.authenticate(unit_request(headers), params)
    for headers, params in (
        ({}, {"token": GIVEN}),
        ({"Authorization": f"Bearer {GIVEN}"}, None),
        ({"Cookie": f"sessions={GIVEN}"}, None),
    ):
        with pytest.raises(Unauthorized):
            await own.authenticate(unit_request(headers), params)
