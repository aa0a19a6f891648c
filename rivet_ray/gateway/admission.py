"""Who may go on: `on_auth`, then the directory, in that order (promise C10)."""

from __future__ import annotations

import asyncio
import zlib
from inspect import isawaitable
from typing import Any

import msgspec

from rivet_ray.definition import ActorDefinition
from rivet_ray.definition.identity import identity_of
from rivet_ray.definition.user_code import UserCodeFailed, call, finish
from rivet_ray.definition.user_tasks import guard_tasks, outside
from rivet_ray.errors import (
    ActorNotFound,
    Forbidden,
    InternalError,
    InvalidParams,
    Outcome,
    PublicError,
    RivetError,
)
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.seals import opened_token
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller, RequestInfo
from rivet_ray.protocol.queries import ActorQuery, GetById, Intent
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.gateway")


class Admission:
    """Decides for each request from outside whether it reaches an actor."""

    def __init__(self, backend: Backend, settings: GatewaySettings) -> None:
        self._backend = backend
        self._settings = settings

    async def admit(
        self,
        query: ActorQuery,
        intents: frozenset[Intent],
        params: bytes | None,
        request: RequestInfo,
        *,
        identify: bool = False,
        resume: Resume | None = None,
    ) -> Caller:
        """Who calls, once `on_auth` has let them in; with `identify` also their identity.

        Raises what `on_auth` raises; the actor is neither looked up nor created. An id
        says nothing of the type, so for a query by id the actor is looked up first, and
        whoever is refused is told the same as where there is none: ActorNotFound. The
        client of one of its connections, which `resume` proves, knows that there is one.
        """
        backend = self._backend
        if not backend.started:
            await backend.start()
        asked = query.intents | intents
        if isinstance(query, GetById):
            definition, exists = await self._definition_by_id(query)
            try:
                auth = await self._authorize(definition, asked, params, request)
            except Exception as error:
                passes = isinstance(error, PublicError) and error.may_pass
                if passes or (exists and await self._proves(query, resume)):
                    raise
                raise _no_such_actor() from error
            if not exists:
                raise _no_such_actor()
        else:
            definition = backend.directory.definition(query.name)
            auth = await self._authorize(definition, asked, params, request)
        identity = self._identity(definition, auth) if identify else None
        return Caller(params, auth, request, identity)

    async def _definition_by_id(self, query: GetById) -> tuple[ActorDefinition, bool]:
        """The type of an actor, and whether there is one.

        For an id that nobody has it is some type with `on_auth`, always the same one:
        what is asked of its callers, and how long that takes, tells nothing then.
        Raises ActorNotFound where no type has it.
        """
        directory = self._backend.directory
        try:
            return directory.definition(await directory.name_of(query)), True
        except ActorNotFound:
            guarded = [item for item in self._backend.definitions.values() if _asks(item)]
            if not guarded:
                raise _no_such_actor() from None
            number = zlib.crc32(query.actor_id.encode(errors="replace"))
            return guarded[number % len(guarded)], False

    async def _proves(self, query: GetById, resume: Resume | None) -> bool:
        if resume is None or resume.connection is None or resume.token is None:
            return False
        directory = self._backend.directory
        token = await opened_token(directory, query.actor_id, resume.connection, resume.token)
        return token is not None

    async def _authorize(
        self,
        definition: ActorDefinition,
        intents: frozenset[Intent],
        params: bytes | None,
        request: RequestInfo,
    ) -> bytes | None:
        if "on_auth" not in definition.hooks:
            if definition.public or self._settings.open:
                return None
            raise Forbidden(
                "This actor type cannot be used from outside: "
                "it neither defines on_auth nor says public = True."
            )
        decoded = definition.decode("Params", params, InvalidParams)
        actor = definition.actor
        guard_tasks()
        token = outside.set(actor)
        try:
            result: Any = call(actor, actor.on_auth, request, decoded, intents)
            if isawaitable(result):
                async with asyncio.timeout(self._settings.auth_timeout):
                    result = await finish(actor, actor.on_auth, result)
            if result is False:
                raise Forbidden("This caller is refused.", outcome=Outcome.NOT_STARTED)
            auth = None if result is None else call(actor, values.encode, result)
            _check(definition, auth)
            return auth
        except Exception as error:
            if isinstance(error, RivetError) and not isinstance(error, UserCodeFailed):
                raise
            raise _failed("on_auth", definition) from error
        finally:
            outside.reset(token)

    def _identity(self, definition: ActorDefinition, auth: bytes | None) -> str | None:
        try:
            return identity_of(definition, auth)
        except Exception as error:
            if isinstance(error, RivetError) and not isinstance(error, UserCodeFailed):
                raise
            raise _failed("caller_identity", definition) from error


def _asks(definition: ActorDefinition) -> bool:
    return "on_auth" in definition.hooks


def _no_such_actor() -> ActorNotFound:
    return ActorNotFound(
        "There is no such actor, or this caller may not use it.", outcome=Outcome.NOT_STARTED
    )


def _check(definition: ActorDefinition, auth: bytes | None) -> None:
    """Raise TypeError for a result of `on_auth` that is not what the actor declares."""
    if definition.types.get("Auth", Any) is Any:
        return
    try:
        definition.decoders["Auth"].decode(values.NULL if auth is None else auth)
    except msgspec.ValidationError as problem:
        raise TypeError(f"on_auth did not return what the actor declares: {problem}") from problem


def _failed(hook: str, definition: ActorDefinition) -> InternalError:
    log.exception("%s of %s failed", hook, definition.actor.__qualname__, extra=REPEATED)
    return InternalError(InternalError.MESSAGE, metadata={}, outcome=Outcome.NOT_STARTED)
