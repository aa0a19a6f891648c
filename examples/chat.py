"""A chat room: connections with a name, history, and messages to everyone."""

from dataclasses import dataclass, field

from rivet_ray import Actor, Event, Registry, UserError, action, use


@dataclass
class Message:
    sender: str
    text: str


@dataclass
class RoomState:
    messages: list[Message] = field(default_factory=list[Message])


@dataclass
class Member:
    """The state of a connection."""

    name: str = "anonymous"


@dataclass
class JoinParams:
    """What a client passes to `connect(params=…)`."""

    name: str = "anonymous"


class ChatRoom(Actor[RoomState, Member, JoinParams | None]):
    public = True
    anonymous_keys = True  # guests have no identity, and the page sends a key with each call

    new_message = Event[Message]()

    def create_conn_state(self, request: object, params: JoinParams | None) -> Member:
        return Member(params.name) if params else Member()

    @action
    def send(self, text: str) -> Message:
        if not text.strip():
            raise UserError("A message needs some text.", code="empty_message")
        message = Message(self.conn.state.name, text)
        self.state.messages.append(message)
        self.broadcast(ChatRoom.new_message, message)
        return message

    @action
    def history(self, limit: int = 50) -> list[Message]:
        return self.state.messages[-limit:]


class App(Registry):
    chat_room = use(ChatRoom)
