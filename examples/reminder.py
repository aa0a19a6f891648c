"""Reminders that arrive even when the server was killed in between."""

from dataclasses import dataclass, field
from datetime import timedelta

from rivet_ray import Actor, Event, Registry, action, use


@dataclass
class Reminders:
    arrived: list[str] = field(default_factory=list[str])


class Reminder(Actor[Reminders]):
    public = True

    reminded = Event[str]()

    @action
    def remind_me(self, text: str, seconds: float) -> str:
        """Returns the id of the schedule entry, for `cancel`."""
        return self.schedule.after(timedelta(seconds=seconds), Reminder.arrive, text)

    @action
    def cancel(self, reminder_id: str) -> bool:
        return self.schedule.cancel(reminder_id)

    @action
    def pending(self) -> list[str]:
        return [str(entry.args[0]) for entry in self.schedule.list()]

    @action
    def arrived(self) -> list[str]:
        return self.state.arrived

    @action(private=True)
    def arrive(self, text: str) -> None:
        self.state.arrived.append(text)
        self.broadcast(Reminder.reminded, text)
        self.log.info("reminder arrived", text=text)


class App(Registry):
    reminder = use(Reminder)


if __name__ == "__main__":
    App.run_server()
