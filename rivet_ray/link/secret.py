"""The cluster secret: who knows it is a gateway or a host of the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rivet_ray.link.faults import InvalidSecret

VARIABLE = "RIVET_CLUSTER_SECRET"

SHORTEST = 16
"""Bytes."""


def cluster_secret(
    value: str | bytes | None = None, environment: Mapping[str, str] | None = None
) -> bytes:
    """The secret that was given, or else that of the environment.

    White space around a text does not count, so that one from a file is the
    same. Raises InvalidSecret when there is none, or it has fewer than 16 bytes.
    """
    given = value if value is not None else (environment or os.environ).get(VARIABLE)
    if given is None:
        raise InvalidSecret(f"There is no cluster secret. Set {VARIABLE} to the same {_CURE}")
    return checked(given.strip().encode() if isinstance(given, str) else given)


def checked(secret: bytes) -> bytes:
    """The same secret, if it is long enough."""
    if len(secret) < SHORTEST:
        raise InvalidSecret(
            f"The cluster secret has {len(secret)} bytes, it needs {SHORTEST} or more. Use {_CURE}"
        )
    return secret


_CURE = (
    "random text on every node, such as that of "
    "`python -c 'import secrets; print(secrets.token_hex(32))'`."
)
