"""Which Redis a URL names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rivet_ray.errors import StoreError

PREFIX = "rivet"
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")


class Kind(Enum):
    """What answers at the addresses of a URL. The value is what `redis` is followed by."""

    SERVER = ""
    SENTINELS = "+sentinel"
    CLUSTER = "+cluster"


FORMS = {
    Kind.SERVER: "redis://[user:password@]host[:port][/database][?prefix=rivet&durability=always]",
    Kind.SENTINELS: (
        "redis+sentinel://[user:password@]host[:26379],.../service[/database][?prefix=rivet]"
    ),
    Kind.CLUSTER: "redis+cluster://[user:password@]host[:port],...[?prefix=rivet]",
}
"""With `rediss` for `redis` each of these speaks TLS."""
SCHEMES = {
    f"{start}{kind.value}": (kind, start == "rediss")
    for start in ("redis", "rediss")
    for kind in Kind
}
PORTS = {Kind.SERVER: 6379, Kind.SENTINELS: 26379, Kind.CLUSTER: 6379}

Address = tuple[str, int]


class Durability(str, Enum):
    """How much of what a server acknowledged it keeps; named after `appendfsync`."""

    NONE = "none"
    EVERYSEC = "everysec"
    ALWAYS = "always"

    def weaker_than(self, other: Durability) -> bool:
        order = list(Durability)
        return order.index(self) < order.index(other)


@dataclass(frozen=True, slots=True)
class Location:
    """A Redis and the part of it that is ours. Its text holds no password."""

    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = PREFIX
    tls: bool = False
    tls_files: dict[str, str] = field(default_factory=dict[str, str])
    """Paths under the names of TLS_FILES: the authority, our certificate and its key."""
    durability: Durability | None = None
    """What the user demands of each server; None where nothing is said."""
    kind: Kind = Kind.SERVER
    others: tuple[Address, ...] = ()
    """Further sentinels, or nodes of the cluster; the first is `host` and `port`."""
    service: str = ""
    """What the sentinels call the primary."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        names = ", ".join(map(_text, self.addresses))
        match self.kind:
            case Kind.SERVER:
                return names
            case Kind.SENTINELS:
                return f"{self.service} (of the sentinels {names})"
            case Kind.CLUSTER:
                return f"{names} (a cluster)"

    @property
    def addresses(self) -> tuple[Address, ...]:
        return ((self.host, self.port), *self.others)

    def at(self, address: Address) -> Location:
        """One server of this cluster, or behind these sentinels."""
        host, port = address
        return replace(self, host=host, port=port, kind=Kind.SERVER, others=(), service="")

    def sentinel(self, address: Address) -> Location:
        """One of the sentinels, which have users of their own and one database."""
        return replace(
            self.at(address),
            database=0,
            username=self.sentinel_username,
            password=self.sentinel_password,
        )

    def as_cluster(self) -> Location:
        """The cluster that this server turned out to be a node of."""
        return replace(self, kind=Kind.CLUSTER)


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def location_of(url: str) -> Location:
    """Read a URL of one of FORMS. Raises StoreError, which never shows the URL."""
    parts, names, kind, tls = _split(url)
    (host, port), *others = _addresses(names, kind)
    service, database = _path(parts, kind)
    options = _options(parts, kind, tls)
    return Location(
        host=host,
        port=port,
        database=database,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        prefix=options.get("prefix", PREFIX),
        tls=tls,
        tls_files={name: options[name] for name in TLS_FILES if name in options},
        durability=_durability(options, kind),
        kind=kind,
        others=tuple(others),
        service=service,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )


def _wrong(problem: str, kind: Kind = Kind.SERVER) -> StoreError:
    return StoreError(f"The URL of the store {problem}: write {FORMS[kind]}.")


def _split(url: str) -> tuple[SplitResult, list[str], Kind, bool]:
    """The URL with its first server alone, which newer Pythons insist on, and all servers."""
    scheme, slashes, rest = url.partition("://")
    servers = re.split("[/?#]", rest, maxsplit=1)[0]
    login, at, hosts = servers.rpartition("@")
    names = hosts.split(",")
    try:
        parts = urlsplit(scheme + slashes + login + at + names[0] + rest[len(servers) :])
    except ValueError:
        raise _wrong("cannot be read") from None
    if parts.scheme not in SCHEMES:
        raise _wrong("is none of Redis")
    kind, tls = SCHEMES[parts.scheme]
    if parts.fragment:
        raise _wrong("has a fragment (write # as %23)", kind)
    return parts, names, kind, tls


def _addresses(names: list[str], kind: Kind) -> list[Address]:
    if len(names) > 1 and kind is Kind.SERVER:
        raise _wrong("names several servers (write redis+cluster:// or redis+sentinel://)")
    return [_address(name, kind) for name in names]


def _address(name: str, kind: Kind) -> Address:
    try:
        one = urlsplit(f"//{name}")
        port = PORTS[kind] if one.port is None else one.port
    except ValueError:
        # Its text may hold part of a password with an unescaped sign.
        raise _wrong(
            "has a port that is none (write : / @ in a password as %3A %2F %40)", kind
        ) from None
    return unquote(one.hostname or "127.0.0.1"), port


def _path(parts: SplitResult, kind: Kind) -> tuple[str, int]:
    """The service of the sentinels, and the database."""
    text = parts.path.strip("/")
    service = ""
    if kind is Kind.SENTINELS:
        service, _, text = text.partition("/")
        if not service:
            raise _wrong("names no service of the sentinels", kind)
    if not text:
        return unquote(service), 0
    if not text.isascii() or not text.isdigit():
        raise _wrong("has a path that is no number of a database", kind)
    if kind is Kind.CLUSTER and int(text):
        raise _wrong("has a database, and a cluster has number 0 alone", kind)
    return unquote(service), int(text)


def _durability(options: dict[str, str], kind: Kind) -> Durability | None:
    if "durability" not in options:
        return None
    try:
        return Durability(options["durability"])
    except ValueError:
        known = ", ".join(durability.value for durability in Durability)
        raise _wrong(f"has a durability that is none of {known}", kind) from None


def _options(parts: SplitResult, kind: Kind, tls: bool) -> dict[str, str]:
    allowed = [
        "prefix",
        "durability",
        *(TLS_FILES if tls else ()),
        *(SENTINEL_LOGIN if kind is Kind.SENTINELS else ()),
    ]
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            raise _wrong(f"has an option {name!r}, and there are only {', '.join(allowed)}", kind)
        if name in options:
            raise _wrong(f"has the option {name!r} twice", kind)
        options[name] = value
    prefix = options.get("prefix", PREFIX)
    if not prefix or set(prefix) & set("{}"):
        raise _wrong("has a prefix that is empty or has braces", kind)
    return options
