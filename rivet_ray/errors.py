"""Every error of rivet_ray, in one tree.

An error has a wire `code`, an HTTP `status` and is either public (its message
and metadata reach the caller) or hidden (the caller sees `internal_error`).
Exceptions are translated to wire failures once, where they leave the host or
the gateway, and rebuilt from their code once, in the client.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar

NOT_NOW = frozenset({408, 425, 429})
"""HTTP statuses below 500 that say nothing against the same request later."""


class Outcome(str, Enum):
    """What is known about the effect of a failed action (promise C8)."""

    NOT_STARTED = "not_started"
    """No code of the action ran; trying again is safe."""
    TOOK_EFFECT = "took_effect"
    """The action ran; what it changed before it failed is kept and durable."""
    UNKNOWN = "unknown"
    """The action may or may not have run, and may or may not have been saved."""


class RivetError(Exception):
    """Base of everything rivet_ray raises on purpose.

    `metadata` is any JSON-like value, or None for none. `outcome` is None only
    where no action was involved.
    """

    code: str = "internal_error"
    status: int = 500
    public: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        metadata: Any = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata
        self.outcome = outcome

    @property
    def told(self) -> str:
        """The text that callers read, if the error is public."""
        return self.message


class PublicError(RivetError):
    """An error whose message and metadata the caller may read."""

    status = 400
    public = True

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later: its status is about the moment."""
        return self.status >= 500 or self.status in NOT_NOW


# --- What users raise -------------------------------------------------------


class UserError(PublicError):
    """Raise this in an action to tell the caller what went wrong.

    `message` is for humans, `code` for programs, `metadata` is any JSON-like
    value. All three reach the client; the HTTP status is 400.
    """

    code = "user_error"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        metadata: Any = None,
        *,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message, metadata=metadata, outcome=outcome)
        if code is not None:
            self.code = code


class InvalidArgument(UserError):
    """An argument, input or parameter does not fit its annotation.

    `metadata["parameter"]` names it.
    """

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(
            f"{parameter}: {problem}",
            metadata={"parameter": parameter, "problem": problem},
            outcome=Outcome.NOT_STARTED,
        )
        self.parameter = parameter


class Unauthorized(PublicError):
    """The caller is not known. Raise it in `on_auth` or `on_before_connect`."""

    code = "unauthorized"
    status = 401

    def __init__(self, message: str = "Unauthorized.", **details: Any) -> None:
        super().__init__(message, **details)


class Forbidden(PublicError):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403

    def __init__(self, message: str = "Forbidden.", **details: Any) -> None:
        super().__init__(message, **details)


class OriginNotAllowed(Forbidden):
    """A browser sent it for a page of an origin that the registry does not name."""

    code = "origin_not_allowed"


class HostNotAllowed(Forbidden):
    """It names the server by a name that is not one of its own."""

    code = "host_not_allowed"


class AuthUnavailable(PublicError):
    """Whoever knows the callers does not answer, so nobody can be let in; try again later."""

    code = "auth_unavailable"
    status = 503


# --- What callers see -------------------------------------------------------


class InternalError(RivetError):
    """What a caller sees of every hidden error: no text, no traceback."""

    MESSAGE: ClassVar[str] = "Internal error. Read the server logs for more details."


class ActorNotFound(PublicError):
    """No such actor, or no actor type of that name in the registry."""

    code = "actor_not_found"


class ActorAlreadyExists(PublicError):
    """`create` on a name and key that are taken."""

    code = "actor_already_exists"


class ActorStopped(PublicError):
    """The actor's instance stopped while the call waited or ran."""

    code = "actor_stopped"
    status = 503


class StateTooNew(PublicError):
    """Newer code has saved the actor's state, with a higher `state_version`.

    Nothing was started, and the actor's data is as it was.
    """

    code = "state_too_new"
    status = 503


class ActionNotFound(PublicError):
    """The actor type has no such action that callers may use."""

    code = "action_not_found"


class ActionTimedOut(PublicError):
    """The action did not finish before its deadline."""

    code = "action_timed_out"


class ActionCancelled(PublicError):
    """The caller went away, or the action was cancelled, before it finished."""

    code = "action_cancelled"


class CallCycle(PublicError):
    """The call waits for an exclusive action, a start or a stop that waits for this call.

    Found where a chain of calls comes back to an actor that it has gone through.
    Two chains that wait for exclusive actions of each other end at their deadlines.
    """

    code = "call_cycle"
    status = 409


class IdempotencyKeyRefused(PublicError):
    """The call has an idempotency key, and nobody knows who its caller is.

    Keys belong to callers: two of them must not get each other's answers.
    """

    code = "idempotency_key_refused"


class IdempotencyKeyReused(PublicError):
    """The idempotency key was used before with another action or other arguments."""

    code = "idempotency_key_reused"
    status = 409


class Interrupted(PublicError):
    """A crash interrupted the call of this idempotency key half-way (promise C4).

    Part of its changes was saved. It is never run again; the outcome is unknown.
    """

    code = "interrupted"
    status = 409


class AnswerNotKept(PublicError):
    """The call of this idempotency key has ended, and its answer was too long to be kept.

    It is never run again; `outcome` says whether it took effect.
    """

    code = "answer_not_kept"
    status = 409


class TooManyKeys(PublicError):
    """The actor remembers as many idempotency keys as it may, of this caller or of all.

    Nothing was started.
    """

    code = "too_many_idempotency_keys"
    status = 429


class TooManySubscriptions(PublicError):
    """The connection subscribes to as many events as it may; end other subscriptions first."""

    code = "too_many_subscriptions"
    status = 429


class InvalidRequest(PublicError):
    """The request misses something or has it in the wrong form."""

    code = "invalid_request"


class InvalidEncoding(PublicError):
    """`X-RivetKit-Encoding` is neither `json` nor `cbor`."""

    code = "invalid_encoding"


class InvalidQueryJSON(PublicError):
    """The actor query is not JSON."""

    code = "invalid_query_json"


class InvalidActionRequest(PublicError):
    """The body of an action request cannot be read."""

    code = "invalid_action_request"


class InexactInteger(PublicError):
    """The action took effect, but its client would misread an integer in the answer.

    Numbers of JavaScript are doubles, which hold integers up to 2**53, and not each
    beyond. Return it as text, or let the client send `X-RivetKit-Integers: exact`.
    """

    code = "inexact_integer"
    status = 406


class InvalidParams(PublicError):
    """The connection parameters are not JSON, or do not fit the actor's type."""

    code = "invalid_params"


class MalformedMessage(PublicError):
    """A message on a connection cannot be read."""

    code = "malformed_message"


class MessageTooLong(PublicError):
    """A message or body is larger than the server accepts, or an answer than the client does."""

    code = "message_too_long"


class ConnectionNotFound(PublicError):
    """No open connection has that id."""

    code = "conn_not_found"


class IncorrectConnectionToken(PublicError):
    """The token is not the one that the connection's client was given."""

    code = "incorrect_conn_token"


class FetchHandlerNotDefined(PublicError):
    """The actor type has no `on_fetch`."""

    code = "fetch_handler_not_defined"
    status = 404


class WebSocketHandlerNotDefined(PublicError):
    """The actor type has no `on_websocket`."""

    code = "websocket_handler_not_defined"
    status = 404


class InvalidFetchResponse(PublicError):
    """What `on_fetch` returned is no response, or no response that HTTP can carry."""

    code = "invalid_fetch_response"
    status = 500


class SlowConsumer(PublicError):
    """The client read more slowly than its actor sent, and was closed."""

    code = "slow_consumer"
    status = 503


class Overloaded(PublicError):
    """A bounded queue is full. Nothing was started; try again later."""

    code = "overloaded"
    status = 503


class ServerStopping(PublicError):
    """The server is shutting down."""

    code = "server_stopping"
    status = 503


class ConnectionClosed(PublicError):
    """The connection ended. `outcome` says what is known of a call on it."""

    code = "connection_closed"
    status = 503


class RequestFailed(PublicError):
    """The server could not be reached, or answered something we cannot read."""

    code = "request_failed"
    status = 502


# --- Faults inside the server ----------------------------------------------


class InvalidStateType(RivetError):
    """The state holds a value that cannot be saved; the message names its path."""

    code = "invalid_state_type"


class ReadonlyViolated(RivetError):
    """A readonly action changed the state. What a plain method changed is undone."""

    code = "readonly_violated"


class NoConnection(RivetError):
    """`self.conn` outside a turn that a connection caused."""

    code = "no_connection"


class DefinitionError(TypeError):
    """An actor class, registry or driver is wrong; every fault is listed."""

    def __init__(self, subject: str, faults: list[str]) -> None:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(f"{subject} cannot be used:{lines}")
        self.subject = subject
        self.faults = faults


class StoreError(RivetError):
    """The store could not do what was asked.

    `message` is for operators: it may name addresses and paths. Callers never read
    it; if the error is public, they read `told`, or the text of its class.
    """

    code = "store_error"
    TOLD: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        told: str | None = None,
        metadata: Any = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message, metadata=metadata, outcome=outcome)
        self._told = told

    @property
    def told(self) -> str:
        return self.TOLD if self._told is None else self._told


class StoreUnavailable(StoreError, PublicError):
    """The store did not answer; whether it acted is unknown."""

    code = "store_unavailable"
    status = 503
    public = True
    TOLD = "The server's store does not answer. Try again later."


class StoreLostData(StoreError, PublicError):
    """The store does not hold what it has confirmed: it is empty, older, or another one.

    Nothing was changed. It stays so until somebody brings the data back, or
    accepts the loss by starting every process of the deployment again.
    """

    code = "store_lost_data"
    status = 503
    public = True
    TOLD = "The server's store has lost data. Its operator must restore it or accept the loss."
