"""Settings that a registry carries hold wherever it is served."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import httpx
import pytest
from dev_server import DevServer

from rivet_ray import Actor, DefinitionError, Registry, action, use
from rivet_ray.gateway import GatewaySettings
from rivet_ray.registry import host_settings_of, merge, settings_of, setup
from rivet_ray.runtime import HostSettings


class Echo(Actor[None]):
    public = True

    @action
    def echo(self, text: str) -> str:
        return text


HOST = HostSettings(max_held_size=1_000_000, sleep_after=7.0)
GATEWAY = GatewaySettings(max_body_size=200)


class App(Registry, host_settings=HOST, gateway_settings=GATEWAY):
    echo = use(Echo)


class Below(App):
    pass


async def test_a_server_of_this_process() -> None:
    async with App.create_server(store="memory://", grace=10) as server:
        host = server._backend.host
        assert (host.settings.max_held_size, host.settings.sleep_after) == (1_000_000, 7.0)
        assert host.settings.close_timeout == 6.0, "what its server decides"
        assert host.budget.limit == 1_000_000


def test_what_is_said_nearer_counts() -> None:
    assert settings_of(Below) == GATEWAY
    assert settings_of(App, GatewaySettings(max_in_flight=3)) == GatewaySettings(max_in_flight=3)
    assert host_settings_of(Below, namespace="n").sleep_after == 7.0
    assert host_settings_of(setup(use={})) == HostSettings()


def test_registries_that_are_served_as_one() -> None:
    class Others(Registry, host_settings=HostSettings(sleep_after=8.0)):
        pass

    both = merge([App, setup(use={})])
    assert (settings_of(both), host_settings_of(both)) == (GATEWAY, HOST)
    with pytest.raises(DefinitionError, match="different host_settings; give them the same"):
        merge([App, Others])


FILE = """
from rivet_ray.runtime import HostSettings
from rivet_ray.gateway import GatewaySettings
from rivet_ray import Actor, Registry, action, use

class Echo(Actor[None]):
    public = True

    @action
    def echo(self, text: str) -> str:
        return text

class App(
    Registry,
    host_settings=HostSettings(max_held_size_per_actor=50_000),
    gateway_settings=GatewaySettings(max_params_size=10),
):
    echo = use(Echo)
"""


async def test_rivet_ray_dev(tmp_path: Path) -> None:
    (tmp_path / "limited.py").write_text(textwrap.dedent(FILE))

    async def ask(key: str, text: str, params: str = "null") -> str:
        query = {"getOrCreateForKey": {"name": "echo", "key": [key]}}
        answer = await http.post(
            f"{server.url}/actors/actions/echo",
            headers={
                "X-RivetKit-Query": json.dumps(query),
                "X-RivetKit-Encoding": "json",
                "X-RivetKit-Conn-Params": params,
            },
            content=json.dumps({"a": [text]}),
        )
        found = answer.json()
        return str(found["o"] if answer.status_code == 200 else found["c"])

    with DevServer("limited:App", cwd=tmp_path) as server:
        async with httpx.AsyncClient() as http:
            assert await ask("one", "hello") == "hello"
            assert await ask("one", "hello", '"much too long"') == "invalid_params"
            assert await ask("it waits for its start", "x" * 60_000) == "overloaded"
