"""A host at the other end of a wire, inside one process."""

from __future__ import annotations

from collections.abc import Callable

from rivet_ray.protocol.port import (
    Hosting,
    HostSession,
    ToGateway,
    ToHost,
    decode_to_gateway,
    decode_to_host,
    encode,
)


class EncodedHost:
    """See `encoded`."""

    def __init__(self, host: Hosting) -> None:
        self._host = host

    def open(self, receive: Callable[[ToGateway], None]) -> HostSession:
        def read(message: ToGateway) -> None:
            receive(decode_to_gateway(encode(message)))

        return EncodedSession(self._host.open(read))


class EncodedSession:
    """A session each of whose messages is bytes on its way."""

    def __init__(self, session: HostSession) -> None:
        self._session = session

    def send(self, message: ToHost) -> None:
        self._session.send(decode_to_host(encode(message)))

    def close(self) -> None:
        self._session.close()


def encoded(host: Hosting) -> Hosting:
    """The same host, with every message of either direction encoded and decoded.

    What passes its tests on this shares no object with its gateway. A message
    that cannot be encoded raises where it is sent.
    """
    return EncodedHost(host)
