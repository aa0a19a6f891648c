"""`POST /actors/actions/{action}` and `POST /actors/resolve`: plain ASGI endpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable

from starlette.types import Receive, Scope, Send

from rivet_ray.errors import InternalError, InvalidActionRequest, InvalidEncoding, Outcome
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.codec import Codec
from rivet_ray.gateway.long_answer import PIECE, LongAnswer
from rivet_ray.gateway.negotiate import (
    ENCODING,
    PARAMS,
    QUERY,
    ClientGone,
    MissingHeaders,
    encoding_of,
    fallback_encoding,
    headers_of,
    key_of,
    params_of,
    query_of,
    reading_body,
    request_info,
    require,
)
from rivet_ray.gateway.responses import JSON, TEXT, inexact, respond, respond_error
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import EncodeFault, IntegerFault
from rivet_ray.protocol.port import CALL_OVERHEAD
from rivet_ray.protocol.queries import Intent
from rivet_ray.store import ActorRecord

ACTION = frozenset[Intent]({"action"})
NOTHING = frozenset[Intent]()
NOT_FOUND = b"Not Found (RivetKit)"


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to every path and method that is not served."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    else:
        await respond(send, 404, NOT_FOUND, TEXT)


class Endpoint(ABC):
    """A POST endpoint that answers errors in the request's encoding."""

    def __init__(self, backend: Backend, admission: Admission, settings: GatewaySettings) -> None:
        self.backend = backend
        self.admission = admission
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await not_found(scope, receive, send)
            return
        headers = headers_of(scope)
        try:
            await self.answer(scope, receive, send, headers)
        except MissingHeaders as missing:
            await respond(send, 400, missing.body, JSON)
        except ClientGone:
            return
        except Exception as error:
            await respond_error(send, error, fallback_encoding(headers))

    @abstractmethod
    async def answer(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]
    ) -> None:
        """Answer the request, or raise."""


class CallAction(Endpoint):
    """Run one action of one actor."""

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        settings: GatewaySettings,
        budgets: Budgets,
        codec: Codec,
    ) -> None:
        super().__init__(backend, admission, settings)
        self._budgets = budgets
        self._codec = codec

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]
    ) -> None:
        require(headers, ENCODING)
        encoding = encoding_of(headers)
        query = query_of(headers)
        params = params_of(headers.get(PARAMS), self.settings.max_params_size)
        key = key_of(headers)
        # Who is refused has nothing of theirs gathered.
        caller = await self.admission.admit(
            query, ACTION, params, request_info(scope), identify=key is not None
        )
        settings = self.settings
        share = self._budgets.of(caller)
        limit, timeout = settings.max_body_size, settings.body_timeout
        async with reading_body(receive, headers, limit, timeout, share.bodies) as body:
            arguments = await self._codec.read(
                v0.decode_action_request, encoding, body, InvalidActionRequest
            )
        del body
        action: str = scope["path_params"]["action"]
        calls = self.backend.calls

        def call(record: ActorRecord) -> Awaitable[bytes | None]:
            return calls.call(record.id, action, arguments, caller=caller, key=key)

        size = len(arguments) + CALL_OVERHEAD
        share.incoming.take(size)
        try:
            output = await self.backend.directory.reach(query, call)
        finally:
            share.incoming.give_back(size)
        try:
            answer = await self._codec.write(v0.encode_action_response, encoding, output)
        except IntegerFault as fault:
            raise inexact(f"The result of {action!r}", fault) from fault
        except EncodeFault as error:
            raise InternalError(outcome=Outcome.TOOK_EFFECT) from error
        content_type = encoding.content_type.encode()
        if len(answer) <= PIECE:
            await respond(send, 200, answer, content_type)
        else:
            long = LongAnswer(self._budgets, share, settings.answer_timeout)
            await long.send(scope, receive, send, answer, content_type)


class Resolve(Endpoint):
    """The id of the actor that a query means."""

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]
    ) -> None:
        require(headers, QUERY, ENCODING)
        encoding = encoding_of(headers, InvalidEncoding)
        query = query_of(headers)
        params = params_of(headers.get(PARAMS), self.settings.max_params_size)
        await self.admission.admit(query, NOTHING, params, request_info(scope))
        record = await self.backend.directory.resolve(query)
        content_type = encoding.content_type.encode() if encoding.binary else TEXT
        await respond(send, 200, v0.encode_resolved(encoding, record.id), content_type)
