"""Which directory a `file://` URL names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from rivet_ray.errors import StoreError

SCHEME = "file://"
BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
DRIVE = re.compile("/[A-Za-z]:")


def directory_of(url: str) -> Path:
    """The absolute directory that `url` names.

    `file:///a/b` and `file://localhost/a/b` are `/a/b`; anything else behind
    the two slashes is relative to the working directory. Escapes (`%20`) are
    decoded. Raises StoreError for what names no directory.
    """
    rest = url.removeprefix(SCHEME)
    if rest == url:
        raise StoreError(f"{url!r} is no URL of this driver: write file:///absolute/path.")
    if "?" in rest or "#" in rest:
        raise StoreError(
            f"{url!r} has a query or fragment, and this driver has no options:"
            " write ? as %3F and # as %23 where they belong to the path."
        )
    if BROKEN_ESCAPE.search(rest):
        raise StoreError(f"{url!r} has a broken escape: write % as %25.")
    text = os.fsdecode(unquote_to_bytes(rest))
    if text.startswith("localhost/"):
        text = text.removeprefix("localhost")
    if "\0" in text or not text.strip("/"):
        raise StoreError(f"{url!r} names no directory: write file:///absolute/path.")
    if text.startswith("~"):
        raise StoreError(f"{url!r}: ~ is not expanded; write the absolute path.")
    if os.name == "nt" and DRIVE.match(text):
        text = text[1:]
    return Path(os.path.abspath(text))
