"""Raw HTTP and WebSocket: a FastAPI application inside an actor, and an echo socket."""

from dataclasses import dataclass, field

from fastapi import FastAPI, HTTPException
from starlette.requests import Request
from starlette.websockets import WebSocket

from rivet_ray import Actor, Registry, use


@dataclass
class NotesState:
    notes: dict[str, str] = field(default_factory=dict[str, str])


application = FastAPI()
"""One for all actors of the type: it finds the one that is meant in the request."""


def actor(request: Request) -> "Notes":
    found: Notes = request.state.actor
    return found


class Notes(Actor[NotesState]):
    public = True

    async def on_fetch(self, request: Request) -> FastAPI:
        return application

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)


# `async`, so that they run where the actor's state may be touched.


@application.get("/notes/{name}")
async def read(name: str, request: Request) -> str:
    notes = actor(request).state.notes
    if name not in notes:
        raise HTTPException(404, f"There is no note {name!r}.")
    return notes[name]


@application.put("/notes/{name}", status_code=204)
async def write(name: str, request: Request) -> None:
    actor(request).state.notes[name] = (await request.body()).decode()


class App(Registry):
    notes = use(Notes)
