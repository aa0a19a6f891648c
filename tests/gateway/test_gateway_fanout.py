"""An event is encoded once for each encoding, whatever the number of its clients."""

from __future__ import annotations

from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.fanout import EventFrames
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol import values
from rivet_ray.protocol.encodings import CBOR, JSON, Encoding
from rivet_ray.protocol.event_stream import message_event
from rivet_ray.protocol.port import Deliver


def event_frames() -> EventFrames:
    budgets = Budgets(GatewaySettings())
    return EventFrames(budgets, GatewayStatistics(budgets.gateway))


def test_once_for_each_encoding_and_shape() -> None:
    frames = event_frames()
    shaped: list[str] = []

    def shape(encoding: Encoding, payload: bytes) -> bytes:
        shaped.append(encoding.name)
        return message_event(encoding, payload)

    message = Deliver("actor", "counted", values.encode([7]))
    for encoding in (JSON, CBOR):
        sockets = [frames.frame(message, encoding, False) for _ in range(3)]
        streams = [frames.shaped(message, encoding, shape, False) for _ in range(3)]
        assert all(frame is sockets[0] for frame in sockets)
        assert all(event is streams[0] for event in streams)
        assert streams[0] == message_event(encoding, sockets[0])
    assert shaped == ["json", "cbor"]
    assert frames.frame(message, JSON, False) == b'{"b":{"ev":{"n":"counted","a":[7]}}}'


def test_numbers_are_for_those_who_count() -> None:
    frames = event_frames()
    message = Deliver("actor", "counted", values.encode([7]), None, 3)
    assert frames.frame(message, JSON, False) == b'{"b":{"ev":{"n":"counted","a":[7]}}}'
    counted = frames.frame(message, JSON, True)
    assert counted == b'{"b":{"ev":{"n":"counted","a":[7],"s":3}}}'
    assert frames.frame(message, JSON, True) is counted


def test_the_next_event_is_another() -> None:
    frames = event_frames()
    told = [
        frames.shaped(
            Deliver("actor", "counted", values.encode([number])), JSON, message_event, False
        )
        for number in range(3)
    ]
    assert told == [
        b'data: {"b":{"ev":{"n":"counted","a":[%d]}}}\n\n' % number for number in range(3)
    ]
