"""`APIKeys`, and what a known caller may do."""

from __future__ import annotations

import hmac
import subprocess
import sys
from typing import Any

import pytest

from rivet_ray import Forbidden, Unauthorized
from rivet_ray.auth import (
    APIKeys,
    cookie_of,
    hash_api_key,
    new_api_key,
    require_origin,
    require_scopes,
)
from rivet_ray.testing import unit_request

FIRST, SECOND = new_api_key(), new_api_key("ci")
FIRST_AUTH = {"name": "first", "key_id": hash_api_key(FIRST)[:23]}
"""What becomes of it: with the id of its key, which is no secret and stays the same."""
KNOWN = {hash_api_key(FIRST): {"name": "first"}, hash_api_key(SECOND): {"name": "second"}}


def test_keys_cannot_be_guessed_and_are_not_kept() -> None:
    assert FIRST.startswith("rk_")
    assert len(FIRST) > 40
    assert new_api_key() != FIRST
    assert hash_api_key(FIRST) == hash_api_key(FIRST)
    assert FIRST not in hash_api_key(FIRST)
    with pytest.raises(ValueError, match="hash_api_key"):
        APIKeys({FIRST: "a key and not its hash"})


@pytest.mark.parametrize(
    ("headers", "params"),
    [
        ({"X-API-Key": FIRST}, None),
        ({"x-api-key": FIRST}, {"other": "x"}),
        ({"Authorization": f"Bearer {FIRST}"}, None),
        ({}, {"authToken": FIRST}),
        ({}, {"token": FIRST}),
    ],
)
async def test_where_it_is_found(headers: dict[str, str], params: Any) -> None:
    keys = APIKeys(KNOWN)
    assert await keys.authenticate(unit_request(headers), params) == FIRST_AUTH


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "missing_token"),
        ("", "missing_token"),
        ("rk_wrong", "invalid_api_key"),
        (FIRST[:-1], "invalid_api_key"),
        (hash_api_key(FIRST), "invalid_api_key"),
        ("\ud800", "invalid_api_key"),
        (7, "invalid_token"),
    ],
    ids=range(7),
)
async def test_what_is_refused(key: Any, reason: str) -> None:
    """The hash is no key: who steals the table cannot come in with it."""
    with pytest.raises(Unauthorized) as caught:
        await APIKeys(KNOWN).authenticate(unit_request(), {"token": key})
    assert caught.value.metadata == {"reason": reason}


async def test_every_key_is_compared_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for key in (FIRST, SECOND):
        compared.clear()
        await APIKeys(KNOWN).verify(key)
        assert compared == [hashed.encode() for hashed in KNOWN]


async def test_a_look_up() -> None:
    """A database may know the hashes; plain or asynchronous."""
    asked: list[str] = []

    async def look_up(hashed: str) -> dict[str, str] | None:
        asked.append(hashed)
        return KNOWN.get(hashed)

    for keys in (APIKeys(look_up), APIKeys(KNOWN.get)):
        assert await keys.verify(FIRST) == FIRST_AUTH
        with pytest.raises(Unauthorized):
            await keys.verify("rk_wrong")
    assert asked == [hash_api_key(FIRST), hash_api_key("rk_wrong")]


async def test_an_id_of_its_own_stays() -> None:
    """And so does what is no dict: who that is says `caller_identity`."""
    for auth in ({"key_id": "importer-3"}, "importer", 7):
        assert await APIKeys({hash_api_key(FIRST): auth}).verify(FIRST) == auth


async def test_a_mapping_may_change() -> None:
    known = dict(KNOWN)
    keys = APIKeys(known)
    del known[hash_api_key(FIRST)]
    with pytest.raises(Unauthorized):
        await keys.verify(FIRST)


@pytest.mark.parametrize(
    ("auth", "missing"),
    [
        ({"scope": "chat:read chat:write"}, []),
        ({"scopes": ["chat:read", "chat:write"]}, []),
        ({"permissions": ["chat:write"], "scope": "chat:read"}, []),
        ({"scope": "chat:read"}, ["chat:write"]),
        ({"scope": "chat:writer chat:read"}, ["chat:write"]),
        ({"scopes": {"chat:read": False}}, ["chat:read", "chat:write"]),
        ({}, ["chat:read", "chat:write"]),
        (None, ["chat:read", "chat:write"]),
    ],
    ids=range(8),
)
def test_scopes(auth: Any, missing: list[str]) -> None:
    if not missing:
        require_scopes(auth, "chat:read", "chat:write")
        return
    with pytest.raises(Forbidden) as caught:
        require_scopes(auth, "chat:read", "chat:write")
    assert caught.value.metadata == {"reason": "missing_scope", "missing": missing}
    assert caught.value.status == 403


def test_origins() -> None:
    ours = ("https://app.example.com",)
    require_origin(unit_request(), *ours)
    require_origin(unit_request({"Origin": "https://app.example.com"}), *ours)
    for other in ("https://evil.example.com", "null", "https://app.example.com.evil.com"):
        with pytest.raises(Forbidden) as caught:
            require_origin(unit_request({"Origin": other}), *ours)
        assert caught.value.metadata == {"reason": "wrong_origin"}


def test_cookies() -> None:
    request = unit_request({"Cookie": 'a=1; session="x y"; b=2'})
    assert cookie_of(request, "session") == "x y"
    assert cookie_of(request, "a") == "1"
    assert cookie_of(request, "c") is None
    assert cookie_of(unit_request(), "a") is None


def test_api_keys_need_no_more_than_the_client() -> None:
    """Without the extra `auth`, tokens say what to install and all else works."""
    program = (
        "import sys\n"
        "sys.modules['jwt'] = None\n"
        "from rivet_ray.auth import APIKeys, hash_api_key\n"
        "APIKeys({hash_api_key('a'): 1})\n"
        "try:\n"
        "    from rivet_ray.auth import JWT\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "JWT needs PyJWT; pip install 'rivet-ray[auth]'\n"
