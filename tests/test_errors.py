"""The tree of errors: code ↔ class, and what a caller may see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rivet_ray
from rivet_ray import errors
from rivet_ray.errors import Outcome, PublicError, RivetError, UserError
from rivet_ray.protocol.error_codes import from_code


def tree(base: type[RivetError] = RivetError) -> Iterator[type[RivetError]]:
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = sorted(set(tree()), key=lambda error: error.__name__)
# InvalidArgument is a UserError with a text of its own: its code is `user_error`.
PUBLIC = [
    error for error in ALL if error.public and error not in (PublicError, errors.InvalidArgument)
]

CODES = {
    "action_cancelled": (errors.ActionCancelled, 400),
    "action_not_found": (errors.ActionNotFound, 400),
    "action_timed_out": (errors.ActionTimedOut, 400),
    "actor_already_exists": (errors.ActorAlreadyExists, 400),
    "actor_not_found": (errors.ActorNotFound, 400),
    "actor_stopped": (errors.ActorStopped, 503),
    "auth_unavailable": (errors.AuthUnavailable, 503),
    "call_cycle": (errors.CallCycle, 409),
    "conn_not_found": (errors.ConnectionNotFound, 400),
    "incorrect_conn_token": (errors.IncorrectConnectionToken, 400),
    "connection_closed": (errors.ConnectionClosed, 503),
    "fetch_handler_not_defined": (errors.FetchHandlerNotDefined, 404),
    "state_too_new": (errors.StateTooNew, 503),
    "forbidden": (errors.Forbidden, 403),
    "origin_not_allowed": (errors.OriginNotAllowed, 403),
    "host_not_allowed": (errors.HostNotAllowed, 403),
    "idempotency_key_refused": (errors.IdempotencyKeyRefused, 400),
    "idempotency_key_reused": (errors.IdempotencyKeyReused, 409),
    "interrupted": (errors.Interrupted, 409),
    "invalid_action_request": (errors.InvalidActionRequest, 400),
    "invalid_encoding": (errors.InvalidEncoding, 400),
    "invalid_fetch_response": (errors.InvalidFetchResponse, 500),
    "inexact_integer": (errors.InexactInteger, 406),
    "invalid_params": (errors.InvalidParams, 400),
    "invalid_query_json": (errors.InvalidQueryJSON, 400),
    "invalid_request": (errors.InvalidRequest, 400),
    "malformed_message": (errors.MalformedMessage, 400),
    "message_too_long": (errors.MessageTooLong, 400),
    "overloaded": (errors.Overloaded, 503),
    "request_failed": (errors.RequestFailed, 502),
    "server_stopping": (errors.ServerStopping, 503),
    "slow_consumer": (errors.SlowConsumer, 503),
    "store_lost_data": (errors.StoreLostData, 503),
    "store_unavailable": (errors.StoreUnavailable, 503),
    "answer_not_kept": (errors.AnswerNotKept, 409),
    "too_many_idempotency_keys": (errors.TooManyKeys, 429),
    "too_many_subscriptions": (errors.TooManySubscriptions, 429),
    "unauthorized": (errors.Unauthorized, 401),
    "user_error": (UserError, 400),
    "websocket_handler_not_defined": (errors.WebSocketHandlerNotDefined, 404),
}
"""What clients in the field match on: changing a line here breaks them."""


def test_every_public_error_has_its_code_and_status() -> None:
    assert {error.code: (error, error.status) for error in PUBLIC} == CODES


def test_every_public_code_is_of_one_class() -> None:
    codes = [error.code for error in PUBLIC]
    assert sorted(codes) == sorted(set(codes))


def test_no_hidden_error_has_the_code_of_a_public_one() -> None:
    hidden = {error.code for error in ALL if not error.public}
    assert not hidden & CODES.keys()
    assert hidden == {
        "internal_error",
        "invalid_state_type",
        "no_connection",
        "readonly_violated",
        "store_error",
    }


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_public_means_public_error(error: type[RivetError]) -> None:
    assert error.public == issubclass(error, PublicError)
    assert error.__doc__


@pytest.mark.parametrize("error", PUBLIC, ids=lambda error: error.__name__)
def test_a_public_error_is_rebuilt_as_its_class(error: type[RivetError]) -> None:
    """What a client catches is what the server raised."""
    found = from_code(error.code, "text", {"a": [1]}, Outcome.NOT_STARTED)
    assert type(found) is error
    assert str(found) == found.message == "text"
    assert (found.code, found.status) == (error.code, error.status)
    assert found.metadata == {"a": [1]}
    assert found.outcome is Outcome.NOT_STARTED


def test_a_rebuilt_error_may_carry_nothing() -> None:
    for code in CODES:
        found = from_code(code, "")
        assert (found.message, found.metadata, found.outcome) == ("", None, None)


def test_a_hidden_error_is_rebuilt_as_internal_error() -> None:
    found = from_code("internal_error", errors.InternalError.MESSAGE)
    assert type(found) is errors.InternalError
    assert found.status == 500
    assert not found.public


@pytest.mark.parametrize("code", ["my_code", "", "store_error", "no_connection", "user_error"])
def test_any_other_code_is_somebodys_user_error(code: str) -> None:
    """A code of a hidden class included: no server of ours sends that, so a user did."""
    found = from_code(code, "text", 1, Outcome.TOOK_EFFECT)
    assert type(found) is UserError
    assert (found.code, found.message, found.metadata) == (code, "text", 1)
    assert found.outcome is Outcome.TOOK_EFFECT
    assert UserError.code == "user_error"


def test_user_errors() -> None:
    error = UserError("Too much.", "too_much", {"most": 5})
    assert (error.message, error.code, error.metadata) == ("Too much.", "too_much", {"most": 5})
    assert (error.status, error.public, error.outcome) == (400, True, None)
    assert str(error) == "Too much."
    assert UserError("x").code == "user_error"
    assert UserError("x", code="c", metadata=[], outcome=Outcome.UNKNOWN).metadata == []


def test_an_error_of_users_keeps_its_class_attributes() -> None:
    class OutOfStock(UserError):
        code = "out_of_stock"
        status = 409

    error = OutOfStock("None left.")
    assert (error.code, error.status, error.public) == ("out_of_stock", 409, True)
    assert type(from_code("out_of_stock", "None left.")) is UserError


def test_invalid_argument_names_its_parameter() -> None:
    error = errors.InvalidArgument("amount", "Expected `int`, got `str`")
    assert error.parameter == "amount"
    assert str(error) == "amount: Expected `int`, got `str`"
    assert error.metadata == {"parameter": "amount", "problem": "Expected `int`, got `str`"}
    assert error.outcome is Outcome.NOT_STARTED
    assert (error.code, error.status) == ("user_error", 400)


def test_who_and_may_not_have_texts_of_their_own() -> None:
    assert errors.Unauthorized().message == "Unauthorized."
    assert errors.Forbidden().message == "Forbidden."
    error = errors.Forbidden("Not yours.", metadata={"owner": "x"})
    assert (error.message, error.metadata, error.status) == ("Not yours.", {"owner": "x"}, 403)


def test_definition_errors_list_every_fault() -> None:
    error = errors.DefinitionError("Actor Counter", ["one", "two"])
    assert str(error) == "Actor Counter cannot be used:\n  - one\n  - two"
    assert (error.subject, error.faults) == ("Actor Counter", ["one", "two"])
    assert isinstance(error, TypeError)
    assert not isinstance(error, RivetError)


def test_outcomes_are_strings_on_the_wire() -> None:
    assert [outcome.value for outcome in Outcome] == ["not_started", "took_effect", "unknown"]
    assert all(Outcome(outcome.value) is outcome for outcome in Outcome)


def test_store_unavailable_is_both() -> None:
    """A driver's failure that callers may see, and that code which catches StoreError gets."""
    error = errors.StoreUnavailable("gone")
    assert isinstance(error, errors.StoreError)
    assert isinstance(error, PublicError)


def test_errors_of_the_package_are_these() -> None:
    for name in rivet_ray.__all__:
        found = getattr(rivet_ray, name)
        if isinstance(found, type) and issubclass(found, Exception):
            assert found is getattr(errors, name)
