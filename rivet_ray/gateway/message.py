"""`POST /actors/message`: what the client of an event stream says."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from rivet_ray.errors import IncorrectConnectionToken, MalformedMessage, Outcome
from rivet_ray.gateway.actions import Endpoint
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.codec import Codec
from rivet_ray.gateway.negotiate import (
    ACTOR,
    CONNECTION,
    ENCODING,
    TOKEN,
    encoding_of,
    reading_body,
    require,
)
from rivet_ray.gateway.responses import JSON, respond
from rivet_ray.gateway.seals import opened_token
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol import v0
from rivet_ray.protocol.port import Ask, Leave, Said, Unreadable, Want
from rivet_ray.protocol.queries import GetById

TAKEN = b"{}"


class SendMessage(Endpoint):
    """Hands a message to whoever holds its connection, in this gateway or another.

    The connection's token is all that the sender has to show: `on_auth` let its
    client in when it connected. It is looked at first, by its seal: for one that was
    made up nothing is read, looked up, started or stored. Answered when the message has
    been taken; what comes of it goes to the stream.
    """

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        settings: GatewaySettings,
        budgets: Budgets,
        codec: Codec,
    ) -> None:
        super().__init__(backend, admission, settings)
        self._unread = budgets.unread
        self._codec = codec

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]
    ) -> None:
        require(headers, ACTOR, CONNECTION, ENCODING, TOKEN)
        encoding = encoding_of(headers)
        actor, connection, shown = (
            headers[name].decode("latin-1") for name in (ACTOR, CONNECTION, TOKEN)
        )
        backend = self.backend
        if not backend.started:
            await backend.start()
        token = await opened_token(backend.directory, actor, connection, shown)
        if token is None:
            # The same for every actor and connection, whether there is one or not.
            raise IncorrectConnectionToken(
                "This is not the token of the connection.", outcome=Outcome.NOT_STARTED
            )
        limit, timeout = self.settings.max_incoming_message_size, self.settings.body_timeout
        async with reading_body(receive, headers, limit, timeout, self._unread, status=400) as body:
            message = await self._codec.read(
                v0.decode_posted, encoding, body, MalformedMessage, status=400
            )
        said = said_of(message)
        if not backend.calls.holds(connection):
            # What nobody created has no host, and none is started for it.
            await backend.directory.resolve(GetById(actor))
        await backend.calls.forward(actor, connection, token, said)
        await respond(send, 200, TAKEN, JSON)


def said_of(message: v0.Received) -> Said:
    """What a client's message says, whatever the dialect."""
    if isinstance(message, v0.UnreadableRequest):
        return Unreadable(message.id, message.problem)
    if isinstance(message, v0.ActionRequest):
        return Ask(message.id, message.name, message.arguments, message.key)
    if isinstance(message, v0.Goodbye):
        return Leave()
    return Want(message.event, message.subscribe)
