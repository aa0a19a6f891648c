"""Actors with every kind of type that a document has to describe."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec
import pydantic
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from rivet_ray import Actor, Event, Registry, UserError, action, use


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A place."""

    x: int = 0
    y: int = 0


class Box(msgspec.Struct, rename="camel"):
    top_left: Point
    label: Annotated[str, msgspec.Meta(max_length=20, description="What is written on it")] = ""


class Options(TypedDict, total=False):
    deep: bool
    colour: Colour


class Address(pydantic.BaseModel):
    street: str
    zip_code: str = pydantic.Field(alias="zipCode", min_length=2, max_length=9)


class Person(pydantic.BaseModel):
    name: str
    address: Address | None = None


class Elsewhere:
    class Point(pydantic.BaseModel):
        """Of the same name as the dataclass."""

        latitude: float = 0.0


@dataclass
class Things:
    count: int = 0
    seen: list[str] = field(default_factory=list[str])


class Shelf(Actor[Things, None, Any, int | None]):
    """Things in rows."""

    public = True

    put = Event[Box, int]()
    cleared = Event[()]()

    def create_state(self, input: int | None) -> Things:
        return Things(input or 0)

    @action
    def add(self, amount: int = 1) -> int:
        """Put more on the shelf.

        At most a million.
        """
        if not -1_000_000 < amount < 1_000_000:
            raise UserError("Too many.", code="too_many", metadata={"amount": str(amount)})
        self.state.count += amount
        return self.state.count

    @action(name="putBox")
    def put_box(self, box: Box, colour: Colour, at: Literal["top", "bottom"] = "top") -> Box:
        return box

    @action
    def mix(
        self, value: int | str | None, options: Options | None = None, *names: str
    ) -> dict[str, int]:
        return dict.fromkeys(names, 1)

    @action
    def when(self, moment: datetime, who: UUID) -> tuple[datetime, UUID]:
        return moment, who

    @action
    def raw(self, size: Annotated[int, msgspec.Meta(ge=0, le=64)]) -> bytes:
        return b"x" * size

    @action
    def measure(self, data: bytes) -> int:
        return len(data)

    @action
    def move_in(self, person: Person, point: Elsewhere.Point, to: Point) -> Person:
        return person

    @action
    def clear(self) -> None:
        self.state.count = 0

    @action(private=True)
    def secret(self) -> None: ...

    @action
    def anything(self, value) -> Any:  # type: ignore[no-untyped-def]
        return value

    @action(name="odd name {x}?")
    def odd(self) -> str:
        return "odd"


class Heap(Actor[Things]):
    public = True

    @action
    def add(self, what: str) -> str:
        """Throw something on the heap."""
        return what

    @action
    def clear(self) -> None: ...

    async def on_fetch(self, request: Request) -> Response:
        body = await request.body()
        return Response(body, headers={"X-Seen": request.method}, media_type="image/x-heap")

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()


class Locked(Actor):
    @action
    def look(self) -> int:
        return 1


class Warehouse(Registry):
    shelf = use(Shelf)
    heap = use(Heap)
    locked = use(Locked)
