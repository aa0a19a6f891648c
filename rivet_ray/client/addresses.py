"""Where a registry is, and what is below an actor."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit


def registry_url(url: str) -> str:
    """Where the registry of a server is; a path in the URL is kept."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is no URL of a server; it looks like http://localhost:8080")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/registry"


def below(path: str) -> str:
    """A path for an actor. Raises ValueError for one that could lead to somebody else."""
    segments = re.split(r"[/\\]", unquote(re.split(r"[?#]", path, maxsplit=1)[0]))
    if "." in segments or ".." in segments:
        raise ValueError(f"{path!r} has the segment . or .., which is folded on the way.")
    return path.removeprefix("/")
