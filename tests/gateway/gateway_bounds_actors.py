"""An actor whose answers are as long as they are asked for."""

from __future__ import annotations

from rivet_ray import Actor, action

RUN: list[int] = []


class Library(Actor[None]):
    public = True

    @action
    def read(self, length: int) -> str:
        RUN.append(length)
        return "x" * length
