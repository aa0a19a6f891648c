"""A counter that remembers: the smallest actor worth having."""

from dataclasses import dataclass

from rivet_ray import Actor, Event, Registry, action, use


@dataclass
class CounterState:
    count: int = 0


class Counter(Actor[CounterState]):
    public = True

    new_count = Event[int]()

    @action
    def increment(self, amount: int = 1) -> int:
        self.state.count += amount
        self.broadcast(Counter.new_count, self.state.count)
        return self.state.count

    @action
    def get_count(self) -> int:
        return self.state.count


class App(Registry):
    counter = use(Counter)


if __name__ == "__main__":
    App.run_server()
