"""Clients of the group: sessions that ask, wait, ask again, look elsewhere, give up, and come back as somebody else.

Each is what a real client is by the protocol: it registers, numbers its requests, has one in flight, repeats it under
the same number until it is answered, follows redirects, and registers anew when it was evicted. What it does not know
the fate of, it resolves. Some send everything twice, some to the wrong member, some write to streams that others
write to.

Every question and every answer is kept (:attr:`Clients.history`), so that afterwards one can say whether the answers
could have come from one machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from veritydb.chain import Kind, chain_hash, pack_header
from veritydb.kernel.commands import (
    AUTOMATIC,
    Append,
    CreateStream,
    DataClass,
    ListStreams,
    Placement,
    Register,
    Resolve,
    encode_command,
)
from veritydb.kernel.replies import (
    Appended,
    Conflict,
    Created,
    Known,
    Refusal,
    Refused,
    Registered,
    decode_reply,
)
from veritydb.simulation.linearizability import Operation
from veritydb.simulation.streams import Add, Ask, Create, Head, Look, as_output
from veritydb.simulation.violation import Violation
from veritydb.simulation.world import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.simulation.chance import Chance
    from veritydb.simulation.world import World

_PLACEMENT = Placement(DataClass.NON_PHI, "")
_RETRY = 150_000
_IMPATIENT = 15_000


class Waiting(NamedTuple):
    """A question that is not answered yet."""

    number: int
    message: Any
    place: int
    """In the history; negative: it is not about one stream."""
    stream: bytes
    asked: Any
    acknowledged: int
    """The highest op that anybody had been told of when it was asked."""


class Belief(NamedTuple):
    """Where a client thinks that a stream ends."""

    next_offset: int = 0
    hash: bytes = bytes(32)


class Client:
    """One client at a time, and those who come after it."""

    def __init__(self, name: int, clients: Clients, chance: Chance) -> None:
        self.name = name
        self.clients = clients
        self.chance = chance
        self.id = chance.octets(16)
        self.session = 0
        self.number = 0
        self.reads = 0
        self.view = 0
        self.waiting: Waiting | None = None
        self.tries = 0
        self.beliefs: dict[bytes, Belief] = {}
        self.doubts: list[tuple[bytes, bytes]] = []
        """Streams and ids of which it does not know what became of them."""
        self.used: list[tuple[bytes, bytes]] = []
        self.twice = chance.happens(200_000)
        """Whether it sends everything to two members."""
        self.reads_only = False
        """Whether it does nothing but read, of all members at once and all the time."""
        self.fickle = chance.happens(300_000)
        """Whether it sometimes gives up, and comes back as somebody else."""

    # Asking

    def begin(self) -> None:
        """Register."""
        self._ask(Register(), b"", None)

    def proceed(self) -> None:
        """Ask the next thing, if there is nothing to wait for."""
        if self.waiting is not None:
            return
        if not self.session:
            self.begin()
        elif not self.clients.finishing:
            self._something()
        elif self.doubts:
            self._resolve(*self.doubts.pop())

    def _something(self) -> None:
        chance, clients = self.chance, self.clients
        if self.doubts and chance.happens(700_000):
            self._resolve(*self.doubts.pop())
            return
        stream = chance.pick(clients.streams)
        if self.reads_only:
            self.read(stream)
            return
        if stream not in self.beliefs:
            self.beliefs[stream] = Belief()
            self._ask(CreateStream(stream, _PLACEMENT), stream, Create())
            return
        dice = chance.below(100)
        if dice < 60:
            self._append(stream)
        elif dice < 80:
            self.read(stream)
        elif dice < 86 and self.used:
            self._resolve(*chance.pick(self.used))
        elif dice < 90:
            self._forbid(stream, chance.octets(16))
        elif dice < 93:
            self._ask(CreateStream(stream, _PLACEMENT), stream, Create())
        elif dice < 95 and clients.extra < 8:
            clients.extra += 1
            self._ask(CreateStream(AUTOMATIC, _PLACEMENT), b"", None)
        elif dice < 97:
            self._ask(ListStreams(0, 4), b"", None)
        else:
            self._append(stream, again=True)

    def _append(self, stream: bytes, *, again: bool = False) -> None:
        chance = self.chance
        belief = self.beliefs[stream]
        if again and self.used:  # An id that was used before: by itself, so that both are the same transaction.
            ids: tuple[bytes, ...] = (chance.pick(self.used)[1],)
        else:
            ids = tuple(chance.octets(16) for _ in range(3 if chance.happens(100_000) else 1))
        body = chance.octets(chance.below(self.clients.record_max + 1))
        header = pack_header(
            stream, belief.next_offset, EPOCH, belief.hash, ids[-1], 0, bytes(32), bytes(12), bytes(32), 0, len(body),
            0, 0, len(ids), Kind.DATA,
        )  # fmt: skip
        record = header + body
        asked = Add(ids, belief.next_offset, belief.hash, chain_hash(belief.hash, record))
        self._use(stream, ids[-1])
        self._ask(Append(ids[:-1], record), stream, asked)

    def _forbid(self, stream: bytes, id_: bytes) -> None:
        """Ask for an id that nobody has used; somebody may try it later."""
        self._use(stream, id_)
        self._resolve(stream, id_)

    def _use(self, stream: bytes, id_: bytes) -> None:
        self.used.append((stream, id_))
        if len(self.used) > 16:
            self.used.pop(0)

    def _resolve(self, stream: bytes, id_: bytes) -> None:
        self._ask(Resolve(stream, id_, 0), stream, Ask(id_))

    def read(self, stream: bytes) -> None:
        """Ask where a stream ends."""
        self.reads += 1
        message = self.clients.messages.ReadRequest(self.id, self.reads, stream)
        self._wait(self.reads, message, stream, Look())

    def append(self, stream: bytes) -> None:
        """Append something where it believes the stream to end."""
        self.beliefs.setdefault(stream, Belief())
        self._append(stream)

    def _ask(self, command: Any, stream: bytes, asked: Any) -> None:
        if self.session:
            self.number += 1
        message = self.clients.messages.Request(self.id, self.session, self.number, encode_command(command), self.view)
        self._wait(self.number, message, stream, asked)

    def _wait(self, number: int, message: Any, stream: bytes, asked: Any) -> None:
        clients = self.clients
        index = -1
        if asked is not None:
            index = len(clients.history)
            clients.history.append((stream, Operation(clients.world.now, None, asked, None)))
        self.waiting = Waiting(number, message, index, stream, asked, clients.acknowledged)
        clients.asked += 1
        self.tries = 0
        self._send()

    def _send(self) -> None:
        waiting = self.waiting
        assert waiting is not None
        world = self.clients.world
        member = self.clients.guess(self)
        if self.tries:
            waiting = self.waiting = waiting._replace(message=self._with_view(waiting.message))
        self.tries += 1
        if self.reads_only and waiting.number and self.session:
            for everyone in self.clients.members:
                world.ask(everyone, waiting.message)
            world.after(_IMPATIENT + self.chance.below(_IMPATIENT), self._again, waiting.number, self.id, self.tries)
            return
        world.ask(member, waiting.message)
        if self.twice:
            world.ask(self.chance.pick(self.clients.members), waiting.message)
        world.after(_RETRY + self.chance.below(_RETRY), self._again, waiting.number, self.id, self.tries)

    def _with_view(self, message: Any) -> Any:
        return message._replace(view=self.view) if hasattr(message, "view") else message

    def _again(self, number: int, own: bytes, tries: int) -> None:
        waiting = self.waiting
        if waiting is None or waiting.number != number or self.id != own or self.tries != tries:
            return
        if self.fickle and not self.clients.finishing and self.chance.happens(100_000):
            self._vanish()
            return
        self.clients.lost_trust(self)
        self._send()

    def _vanish(self) -> None:
        """End, in the middle of a request; somebody else comes, who knows only what was being tried."""
        self._doubt()
        self.waiting = None
        self.id = self.chance.octets(16)
        self.session = self.number = self.reads = 0
        self.clients.world.count("client lost")
        self.proceed()

    def _doubt(self) -> None:
        waiting = self.waiting
        if waiting is not None and isinstance(waiting.asked, Add):
            self.doubts.extend((waiting.stream, id_) for id_ in waiting.asked.ids[-1:])

    # Being answered

    def hear(self, member: int, message: Any) -> None:
        """Take what a member says."""
        kinds = self.clients.messages
        waiting = self.waiting
        if hasattr(message, "view"):
            self.view = max(self.view, message.view)
        if isinstance(message, kinds.Redirect):
            if waiting is not None and self.tries < 20:
                self.clients.told(self, message.primary)
                if message.number == waiting.number and self.tries < 3:
                    self.clients.world.after(2_000, self._follow, waiting.number, self.id, self.tries)
            return
        if isinstance(message, kinds.Evicted):
            if message.session == self.session and self.session:
                self._doubt()
                self.clients.world.count("eviction")
                self.waiting = None
                self.id = self.chance.octets(16)
                self.session = self.number = 0
                self.clients.soon(self)
            return
        if waiting is None or message.number != waiting.number:
            return
        is_read = isinstance(message, kinds.ReadReply)
        if is_read != isinstance(waiting.message, kinds.ReadRequest):
            return
        if not is_read and message.session != self.session and self.session:
            return
        self.clients.told(self, member)
        self._answered(waiting, message, is_read=is_read)

    def _follow(self, number: int, own: bytes, tries: int) -> None:
        if self.waiting is not None and self.waiting.number == number and self.id == own and self.tries == tries:
            self._send()

    def _answered(self, waiting: Waiting, message: Any, *, is_read: bool) -> None:
        self.waiting = None
        clients = self.clients
        clients.answered += 1
        if is_read:
            output: Any = Head(message.known, message.next_offset, message.hash)
            if message.known:
                self._believe(waiting.stream, message.next_offset, message.hash)
            if message.op < waiting.acknowledged:
                raise Violation(
                    "a read gives what was committed before it was asked",
                    f"op {waiting.acknowledged} was acknowledged, op {message.op} was read",
                )
        else:
            reply = decode_reply(message.result)
            output = as_output(reply)
            self._learn(waiting, reply)
            clients.on_reply(message)
        if waiting.place >= 0:
            stream, operation = clients.history[waiting.place]
            if not isinstance(output, Refused) or output.reason not in (Refusal.SESSION_UNKNOWN, Refusal.REQUEST_OLD):
                clients.history[waiting.place] = (stream, operation._replace(ret=clients.world.now, output=output))
        clients.acknowledged = max(clients.acknowledged, message.op)
        clients.soon(self)

    def _learn(self, waiting: Waiting, reply: Any) -> None:
        if isinstance(reply, Registered):
            self.session = reply.session
        elif isinstance(reply, (Appended, Conflict)):
            self._believe(waiting.stream, reply.next_offset, reply.hash)
        elif isinstance(reply, Created) and waiting.stream:
            self.beliefs.setdefault(waiting.stream, Belief())
        elif isinstance(reply, Known):
            pass
        elif isinstance(reply, Refused) and reply.reason in (Refusal.SESSION_UNKNOWN, Refusal.REQUEST_OLD):
            self._doubt()
            self.id = self.chance.octets(16)
            self.session = self.number = 0

    def _believe(self, stream: bytes, next_offset: int, hash_: bytes) -> None:
        if next_offset >= self.beliefs.get(stream, Belief()).next_offset:
            self.beliefs[stream] = Belief(next_offset, hash_)


def _nothing(_: Any) -> None:
    """Do nothing with a reply."""


class Clients:
    """All clients of a run."""

    def __init__(self, world: World) -> None:
        scenario = world.scenario
        self.world = world
        self.messages = world.code.messages
        chance = world.chance.split("clients")
        self.chance = chance
        self.members = sorted(world.nodes)
        self.streams = [chance.octets(16) for _ in range(scenario.streams)]
        self.record_max = scenario.record_max
        self.extra = 0
        self.history: list[tuple[bytes, Operation]] = []
        self.acknowledged = 0
        """The highest op that any client was told of."""
        self.asked = 0
        self.answered = 0
        self.finishing = False
        self._trust: dict[int, int] = {}
        self.on_reply: Callable[[Any], None] = _nothing
        """Is shown every reply that a client takes."""
        self.all = [Client(name, self, chance.split(f"client {name}")) for name in range(scenario.clients)]
        for name in range(scenario.readers):
            reader = Client(len(self.all), self, chance.split(f"reader {name}"))
            reader.reads_only = True
            self.all.append(reader)

    def begin(self) -> None:
        """Let all of them begin."""
        for client in self.all:
            self.world.after(self.chance.below(20_000), client.proceed)

    def hear(self, member: int, message: Any) -> None:
        """Give a member's message to whom it is for, if that client still exists."""
        for client in self.all:
            if client.id == message.client:
                client.hear(member, message)
                return

    def soon(self, client: Client) -> None:
        """Have a client go on after it has thought."""
        think = _IMPATIENT if client.reads_only else self.world.scenario.think
        self.world.after(self.chance.heavy(0, think), client.proceed)

    def guess(self, client: Client) -> int:
        """Return the member to ask."""
        trusted = self._trust.get(client.name)
        return self.members[client.view % len(self.members)] if trusted is None else trusted

    def told(self, client: Client, member: int) -> None:
        """A client has heard who is to be asked."""
        if member in self.members:
            self._trust[client.name] = member

    def know(self, members: tuple[int, ...]) -> None:
        """The members are others now."""
        if not self.finishing:
            self.members = sorted(members)

    def forget_trust(self) -> None:
        """The members are others now."""
        self._trust.clear()

    def lost_trust(self, client: Client) -> None:
        """A client was not answered."""
        self._trust[client.name] = client.chance.pick(self.members)

    @property
    def waiting(self) -> list[Client]:
        """Those that wait for an answer, or have a doubt left."""
        return [client for client in self.all if client.waiting is not None or (self.finishing and client.doubts)]

    def parts(self) -> dict[Any, list[Operation]]:
        """Return the history, stream by stream."""
        parts: dict[Any, list[Operation]] = {}
        for stream, operation in self.history:
            parts.setdefault(stream, []).append(operation)
        return parts
