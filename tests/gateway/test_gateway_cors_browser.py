"""CORS as a real browser takes it: what its pages may send and read."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_browser import Pages
from gateway_servers import serving
from gateway_wire import JSON, get_or_create

from rivet_ray import CORS, Actor, Forbidden, action
from rivet_ray.gateway import GatewaySettings


class Guarded(Actor[None]):
    anonymous_keys = True

    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        if dict(request.headers).get("authorization") == "Bearer bad":
            raise Forbidden("Not you.")
        return None

    @action
    def act(self) -> int:
        return 7


ASK = """
const headers = {
  "X-RivetKit-Query": JSON.stringify(settings.query), "X-RivetKit-Encoding": "json",
  "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID?.() ?? "key",
};
async function ask(path, more) {
  try {
    const answer = await fetch(settings.url + path, {
      method: "POST", credentials: "include", headers: {...headers, ...more}, body: '{"a":[]}',
    });
    return [answer.status, await answer.json(), answer.headers.get("x-rivetkit-outcome")];
  } catch (error) { return error.name; }
}
function connect() {
  return new Promise((resolve) => {
    const query = "query." + encodeURIComponent(JSON.stringify(settings.query));
    const url = settings.url.replace("http", "ws") + "/registry/actors/connect/websocket";
    const socket = new WebSocket(url, [query, "encoding.json", "rivetkit"]);
    socket.onmessage = (message) => resolve(Object.keys(JSON.parse(message.data).b));
    socket.onerror = () => resolve("refused");
  });
}
const act = "/registry/actors/actions/act";
return {
  good: await ask(act), refused: await ask(act, {"Authorization": "Bearer bad"}),
  missing: await ask("/registry/actors/actions/none"),
  header: await ask(act, {"X-Not-Allowed": "1"}), socket: await connect(),
};
"""


@pytest.mark.slow
async def test_what_pages_may_do() -> None:
    """A page of the named origin calls, reads errors and their outcome; another one nothing."""
    with Pages() as pages:
        cors = CORS(pages.origin(), allow_headers=["Authorization"])
        settings = GatewaySettings(cors=cors)
        async with serving("direct", JSON, {"guarded": Guarded}, settings=settings) as site:
            told = {"url": f"http://{site.address}", "query": get_or_create("guarded", "a")}
            found = await pages.see(ASK, told)
            assert found["good"] == [200, {"o": 7}, None]
            status, body, outcome = found["refused"]
            assert (status, body["c"], outcome) == (403, "forbidden", "not_started")
            assert found["missing"][:1] == [400]
            assert found["missing"][1]["c"] == "action_not_found"
            assert found["header"] == "TypeError"
            assert found["socket"] == ["i"]

            other = await pages.see(ASK, told, "localhost")
            nothing = dict.fromkeys(("good", "refused", "missing", "header"), "TypeError")
            assert other == {**nothing, "socket": ["e"]}


@pytest.mark.slow
async def test_without_cors_no_page_may() -> None:
    with Pages() as pages:
        async with serving("direct", JSON, {"guarded": Guarded}) as site:
            told = {"url": f"http://{site.address}", "query": get_or_create("guarded", "a")}
            found = await pages.see(ASK, told)
            assert {found[name] for name in ("good", "refused", "missing")} == {"TypeError"}
            assert found["socket"] == ["e"]
