"""What `rivet_ray` exports, and what importing it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import rivet_ray

NAMES = [
    "ALLOWED_PUBLIC_HEADERS",
    "CORS",
    "Action",
    "ActionCancelled",
    "ActionNotFound",
    "ActionTimedOut",
    "Actor",
    "ActorAlreadyExists",
    "ActorNotFound",
    "ActorStopped",
    "AnswerNotKept",
    "AuthUnavailable",
    "CallCycle",
    "Client",
    "Conn",
    "Connection",
    "ConnectionClosed",
    "DefinitionError",
    "Event",
    "Forbidden",
    "HostNotAllowed",
    "IdempotencyKeyRefused",
    "IdempotencyKeyReused",
    "InternalError",
    "Interrupted",
    "NoConnection",
    "OriginNotAllowed",
    "Outcome",
    "Overloaded",
    "PublicError",
    "Registry",
    "Request",
    "RivetError",
    "Scheduled",
    "Server",
    "StateTooNew",
    "StoreLostData",
    "StoreUnavailable",
    "SyncClient",
    "TooManyKeys",
    "TooManySubscriptions",
    "Unauthorized",
    "UserError",
    "action",
    "setup",
    "use",
]

HEAVY = {
    "aiohttp",
    "click",
    "fastapi",
    "httpx",
    "numpy",
    "pydantic",
    "pytest",
    "ray",
    "redis",
    "rich",
    "starlette",
    "structlog",
    "typer",
    "uvicorn",
    "uvloop",
    "websockets",
}
"""What a program that only describes actors must not wait for."""


def imported(statement: str) -> set[str]:
    """The top-level modules that a new interpreter has after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_these_names_are_exported() -> None:
    """Adding one is a decision, taking one away breaks programs."""
    assert rivet_ray.__all__ == NAMES


def test_every_exported_name_is_there_and_documented() -> None:
    for name in NAMES:
        assert inspect.getdoc(getattr(rivet_ray, name)), name


def test_no_other_public_names() -> None:
    """But for the modules of the package, and nothing that was imported by the way."""
    others = {
        name
        for name, value in vars(rivet_ray).items()
        if not name.startswith("_") and name not in NAMES and not inspect.ismodule(value)
    }
    assert others == set()


def test_the_package_is_typed() -> None:
    from importlib.resources import files

    assert files("rivet_ray").joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    "statement",
    [
        "import rivet_ray",
        "import rivet_ray.store",
        "import rivet_ray.runtime",
        "import rivet_ray.auth",
        "import rivet_ray.testing",
        "import rivet_ray_drivers.memory",
        "import examples.counter, examples.chat",
        "import rivet_ray; rivet_ray.Client.over",
    ],
)
def test_importing_is_light(statement: str) -> None:
    """Neither server, nor HTTP client, nor Ray, nor a test tool."""
    assert imported(statement) & HEAVY == set()


def test_the_client_needs_no_server() -> None:
    """A client's machine has the base dependencies only."""
    server = HEAVY - {"httpx", "websockets", "click", "rich"}
    statement = "import rivet_ray; rivet_ray.Client('http://localhost:1')"
    assert imported(statement) & server == set()
