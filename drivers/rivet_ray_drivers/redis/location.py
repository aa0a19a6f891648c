"""Which Redis a URL names."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rivet_ray.errors import StoreError

SCHEMES = ("redis", "rediss")
FORM = "redis://[user:password@]host[:port][/database][?prefix=rivet]"
PREFIX = "rivet"
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class Location:
    """A Redis server and the part of it that is ours. Its text holds no password."""

    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = PREFIX
    tls: bool = False
    tls_files: dict[str, str] = field(default_factory=dict[str, str])
    """Paths under the names of TLS_FILES: the authority, our certificate and its key."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def location_of(url: str) -> Location:
    """Read a URL of the form FORM. Raises StoreError, which never shows the URL."""
    parts = _split(url)
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    options = _options(parts)
    return Location(
        host=unquote(parts.hostname or "127.0.0.1"),
        port=_port(parts),
        database=_database(parts),
        username=username,
        password=password,
        prefix=options.get("prefix", PREFIX),
        tls=parts.scheme == "rediss",
        tls_files={name: options[name] for name in TLS_FILES if name in options},
    )


def _wrong(problem: str) -> StoreError:
    return StoreError(f"The URL of the store {problem}: write {FORM}.")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        hidden = parts.fragment
    except ValueError:
        raise _wrong("cannot be read") from None
    if parts.scheme not in SCHEMES:
        raise _wrong("is none of Redis")
    if hidden:
        raise _wrong("has a fragment (write # as %23)")
    return parts


def _port(parts: SplitResult) -> int:
    try:
        return 6379 if parts.port is None else parts.port
    except ValueError:
        # Its text may hold part of a password with an unescaped sign.
        raise _wrong("has a port that is none (write : / @ in a password as %3A %2F %40)") from None


def _database(parts: SplitResult) -> int:
    text = parts.path.strip("/")
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise _wrong("has a path that is no number of a database")
    return int(text)


def _options(parts: SplitResult) -> dict[str, str]:
    allowed = ["prefix", *TLS_FILES] if parts.scheme == "rediss" else ["prefix"]
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            raise _wrong(f"has an option {name!r}, and there are only {', '.join(allowed)}")
        if name in options:
            raise _wrong(f"has the option {name!r} twice")
        options[name] = value
    prefix = options.get("prefix", PREFIX)
    if not prefix or set(prefix) & set("{}"):
        raise _wrong("has a prefix that is empty or has braces")
    return options
