"""Where the cluster secret comes from, and the text of addresses."""

from __future__ import annotations

import pytest

from rivet_ray.link import (
    InvalidSecret,
    LinkClient,
    LinkError,
    LinkServer,
    addresses,
    cluster_secret,
)


def test_a_given_secret_goes_before_the_environment() -> None:
    environment = {"RIVET_CLUSTER_SECRET": "from the environment"}
    assert cluster_secret("given, long enough", environment) == b"given, long enough"
    assert cluster_secret(b" bytes stay as they are ", environment) == b" bytes stay as they are "
    assert cluster_secret(None, environment) == b"from the environment"


def test_white_space_around_a_text_does_not_count() -> None:
    assert cluster_secret("sixteen bytes ok\n") == b"sixteen bytes ok"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVET_CLUSTER_SECRET", "sixteen bytes ok")
    assert cluster_secret() == b"sixteen bytes ok"


def test_no_secret_tells_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIVET_CLUSTER_SECRET", raising=False)
    with pytest.raises(InvalidSecret, match=r"Set RIVET_CLUSTER_SECRET.*token_hex"):
        cluster_secret()


@pytest.mark.parametrize("secret", ["", "fifteen bytes..", b"short", "                    "])
def test_a_short_secret_is_refused_without_being_shown(secret: str | bytes) -> None:
    with pytest.raises(InvalidSecret, match="it needs 16 or more") as caught:
        cluster_secret(secret)
    text = secret.decode() if isinstance(secret, bytes) else secret.strip()
    assert not text or text not in str(caught.value)


def test_neither_end_takes_a_short_one() -> None:
    nowhere: object = None
    with pytest.raises(InvalidSecret):
        LinkClient("127.0.0.1:1", b"short")
    with pytest.raises(InvalidSecret):
        LinkServer(nowhere, b"short")  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "node-1.example", "::1", "fe80::1"])
def test_addresses_come_back(host: str) -> None:
    assert addresses.split(addresses.join(host, 7000)) == (host, 7000)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "::1:7000", "h:\u0663"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(LinkError, match="no address"):
        addresses.split(text)
