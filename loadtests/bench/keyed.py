"""The counter of the examples, for callers who may repeat a call."""

from examples.counter import Counter as Plain
from rivet_ray import Registry, use


class Counter(Plain):
    anonymous_keys = True


class App(Registry):
    counter = use(Counter)
