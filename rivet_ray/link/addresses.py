"""Addresses as text: `host:port`, an IPv6 host in brackets."""

from __future__ import annotations

from rivet_ray.link.faults import LinkError


def join(host: str, port: int) -> str:
    """The address of a port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host and port. Raises LinkError."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    right = colon and host and (bracketed or ":" not in host)
    if not (right and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise LinkError(f"{address!r} is no address of a link; it should look like 10.0.0.1:7000.")
    return host, int(port)
