"""Why a link cannot be opened, or ended. All are hidden from callers of actions."""

from __future__ import annotations

from rivet_ray.errors import RivetError


class LinkError(RivetError):
    """A link could not be opened, or ended before it was closed."""

    code = "link_failed"


class InvalidSecret(LinkError):
    """There is no cluster secret, or it is too short."""

    code = "link_invalid_secret"


class HandshakeFailed(LinkError):
    """The peer did not introduce itself as it should, or not in time."""

    code = "link_handshake_failed"


class VersionMismatch(HandshakeFailed):
    """The peer speaks another version of the link."""

    code = "link_version_mismatch"


class WrongSecret(HandshakeFailed):
    """The peer does not prove that it knows the cluster secret."""

    code = "link_wrong_secret"


class LinkGarbled(LinkError):
    """The peer sent something that is no frame, or a frame that is too long."""

    code = "link_garbled"


class LinkSilent(LinkError):
    """The peer sent nothing for too long, though it was asked to."""

    code = "link_silent"


class LinkOverflow(LinkError):
    """The peer read too slowly, or something for it was too large to be left out."""

    code = "link_overflow"
