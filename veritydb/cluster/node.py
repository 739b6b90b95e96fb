"""The process that drives a replica: real peers, a real disk, real time.

One event loop takes in what arrives (messages, disk completions, ticks), calls :meth:`Replica.step`, and carries out
its effects: messages go into bounded queues, one for each connection (:mod:`veritydb.cluster.frames`); committed
records to a thread of their own (:mod:`veritydb.cluster.keeping`). What overflows is dropped: to the replica that is a
network that loses messages, which it is made for.

A *turn* of the loop hears all that has arrived, then sends all that this gave to say, then writes to the disk all that
it gave to write (:mod:`veritydb.cluster.disk_turns`; a slow disk has a thread). Sending comes first: the others' disks
work while this one does.

Everybody speaks frames of :mod:`veritydb.vsr.wire` over TLS, with certificates of one authority on both sides. A
member dials every other member and speaks on the connection it has dialled; clients dial whom they like and get their
answers on the same connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import anyio
import anyio.abc

from veritydb.cluster.admission import Admission, Visitor
from veritydb.cluster.certificates import check_own, context
from veritydb.cluster.config import Address, NodeConfig, read_secret
from veritydb.cluster.dialling import HANDSHAKE_SECONDS, Dialler
from veritydb.cluster.disk import Disk
from veritydb.cluster.disk_turns import DiskTurns
from veritydb.cluster.frames import Frames
from veritydb.cluster.keeping import FETCH_MAX, Caught, Expected, Hurry, Keeper
from veritydb.cluster.listening import listen, refuse, take
from veritydb.cluster.logs import fields
from veritydb.cluster.observing import Observer
from veritydb.cluster.records import End, Missing, RecordStore
from veritydb.cluster.session import Group, Session
from veritydb.errors import ConfigurationError, DatabaseError, GroupUnavailable
from veritydb.vsr.effects import (
    TICK_MS,
    Answer,
    Arrived,
    Committed,
    Effect,
    Event,
    Gone,
    Read,
    ReadDone,
    Remove,
    Retained,
    Send,
    StepDown,
    Tick,
    Write,
    WriteDone,
)
from veritydb.vsr.messages import (
    AskStatus,
    Denied,
    FetchedRecords,
    FetchRecords,
    ReadRequest,
    Reconfigure,
    Reply,
    Request,
    TellStatus,
)
from veritydb.vsr.replica import Replica, Status
from veritydb.vsr.wire import Dropped, DropReason, Wire, derive_keys

if TYPE_CHECKING:
    from veritydb.cluster.metrics import Metrics

log = logging.getLogger("veritydb.node")

CLIENTS_MAX = 4096
BACKLOG = 1024
PAUSE_SECONDS = 0.05
"""Before the next one is let in, where one could not be."""
CATCH_UP_SECONDS = 0.1
"""How often it is looked whether records are missing."""
VERSION_SECONDS = 2.0
"""How soon after its start a node that understands nobody gives up."""
STEP_DOWN_SECONDS = 2.0
"""How long a primary that is asked to stop waits for the next one."""


class NodeHalted(DatabaseError):
    """The node has stopped itself, and says why; what was acknowledged is on disk."""


class Node:
    """One member of a group, or a learner, as a process."""

    def __init__(self, config: NodeConfig, *, reread: Callable[[], NodeConfig] | None = None) -> None:
        """``reread`` returns the configuration as it is now, for SIGHUP: of it, only the others' addresses count."""
        self._config = config
        self._reread = reread
        self._keys = derive_keys(read_secret(config.secret_file))
        self._wire = Wire(cluster=config.cluster, keys=self._keys, member=config.member)
        self._server_tls = context(config.authority, config.certificate, config.key, server=True)
        self._client_tls = context(config.authority, config.certificate, config.key, server=False)
        check_own(self._server_tls, self._client_tls, config.certificate)
        self._dialler = Dialler(
            config.member,
            config.members,
            self._client_tls,
            filled=self._filled,
            gone=lambda member: self._step(Gone(member)),
        )
        self._clients: dict[bytes, Frames] = {}
        self._connections = 0
        self._speaking: list[Frames] = []
        """Connections on which something waits to be sent."""
        self._is_turning = self._is_syncing = False
        self._broken: Exception | None = None
        self._hurried = 0
        """The checkpoint for which the keeper was told to hurry."""
        self.counts: Counter[str] = Counter()
        """What happened, by name, for people and metrics."""
        self._foreign = 0
        """Messages so far that were another cluster's, or forged: who sends one is hung up on, and so learns of it."""
        self._admission = Admission(config.rights_file, config.cluster, self.counts)
        self.halted: str | None = None
        self._asked: dict[bytes, tuple[int, float]] = {}
        """By client, the number of its last request and when it came."""
        self._stranger = ""
        """What was said in another version of the protocol, if anything."""
        self._answered: Callable[[float], object] = _nothing
        self._committed = 0
        """The op that was committed last, as the records' keeper has heard of it."""
        self._stopping: asyncio.Event | None = None

    async def run(self, *, started: Callable[[], None] | None = None) -> None:
        """Run until SIGTERM or SIGINT, or until the replica halts, which raises NodeHalted.

        Raises what opening raises: ConfigurationError, DiskFailed, SuperblockDamaged, CannotStart, OSError.
        """
        config = self._config
        loop = self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        disk = Disk(config.data / "replica")
        try:
            if disk.slots != config.slots:
                # Ops would be looked for where they are not, and what was acknowledged might be denied.
                raise ConfigurationError(
                    f"slots = {config.slots}, and the disk in {disk.folder} was made with {disk.slots}; it cannot be "
                    "changed"
                )
            self.replica = Replica(
                cluster=config.cluster,
                member=config.member,
                image=disk.image(),
                seed=secrets.randbits(63),
                options=config.options,
            )
            metrics = self._make_metrics()
            self._disk = DiskTurns(
                disk,
                self._step,
                loop.call_soon_threadsafe,
                flushed=metrics.flushed if metrics is not None else _nothing,
            )
            self._keeper = Keeper(
                RecordStore(config.data / "streams", alone=len(config.members) == 1),
                retained=lambda op: loop.call_soon_threadsafe(self._step, Retained(op)),
                answer=lambda client, message: loop.call_soon_threadsafe(self._answer, client, message),
                failed=lambda error: loop.call_soon_threadsafe(self._halt, f"records cannot be kept: {error}"),
            )
            self._observer = Observer(config, self._others(config.members), self.replica, self._keeper)
            self._observer.connected = lambda: (len(self._clients), self._connections)
            self._observer.addresses = lambda: self._dialler.addresses
            try:
                await self._serve(metrics, started)
            except BaseExceptionGroup as group:
                raise _first(group) from group
            finally:
                await self._observer.close()
                self._keeper.close()
                self._disk.close()
        finally:
            disk.close()
        if self._broken is not None:
            raise self._broken
        if self.halted is not None:
            raise NodeHalted(f"node {config.member} has stopped: {self.halted}")

    def _make_metrics(self) -> Metrics | None:
        if self._config.metrics is None:
            return None
        # Here, because a node that serves no metrics needs neither of the libraries that it takes.
        try:
            from veritydb.cluster.metrics import Metrics
        except ImportError as error:
            raise ConfigurationError(
                f"metrics need more than is installed ({error.name}): pip install 'veritydb[cluster]'"
            ) from error
        metrics = Metrics(
            lambda: self._observer.status(),  # noqa: PLW0108  # there is no observer yet
            lambda: self.counts,
            lambda: {reason.name.lower(): count for reason, count in self._wire.dropped.items()},
        )
        self._answered = metrics.answered
        return metrics

    async def _serve(self, metrics: Metrics | None, started: Callable[[], None] | None) -> None:
        assert self._stopping is not None
        address = self._config.address
        async with contextlib.AsyncExitStack() as open_, anyio.create_task_group() as tasks:
            taken = open_.enter_context(take(address))
            if metrics is not None and self._config.metrics is not None:
                from veritydb.cluster.health import HealthServer

                health = HealthServer(self._config.metrics, self._observer.status, metrics)
                open_.callback(health.close)
                tasks.start_soon(health.serve)
            tasks.start_soon(self._watch_signals)
            # Until it is known that this member may take part, nobody hears it.
            await self._observer.ask_before_start()
            listen(taken, address, BACKLOG)
            tasks.start_soon(self._let_in, taken, tasks)
            self._dialler.start(tasks)
            tasks.start_soon(self._catch_up)
            self._expect()  # Of the checkpoint, whose ops do not come again.
            tasks.start_soon(self._observer.watch)
            tasks.start_soon(self._give_up_on_strangers)
            self._carry_out(self.replica.start(time.time_ns()))
            self._tick(self._loop.time())
            open_.callback(lambda: self._ticking.cancel())  # noqa: PLW0108  it is another one by then
            self._observer.phase = "running"
            log.info("listening", extra=fields(address=address, view=self.replica.view, op=self.replica.head))
            if started is not None:
                started()
            await self._stopping.wait()
            self._observer.phase = "stopping" if self.halted is None else f"halted: {self.halted}"
            await self._step_down()
            tasks.cancel_scope.cancel()

    async def _give_up_on_strangers(self) -> None:
        """Halt if there are members, and all that they say is of another version."""
        await anyio.sleep(VERSION_SECONDS)
        if self._wire.dropped[DropReason.VERSION] and not self._observer.has_heard_anybody:
            self._halt(f"the other members speak another version of the protocol: {self._stranger}")

    async def _step_down(self) -> None:
        """Leave the others a primary, so that they need not notice our silence first."""
        replica = self.replica
        is_needed = replica.status is Status.NORMAL and replica.is_primary and len(replica.members) > 1
        if self.halted is not None or not is_needed:
            return
        self._step(StepDown())
        with anyio.move_on_after(STEP_DOWN_SECONDS):
            while self.halted is None and replica.status is not Status.NORMAL:
                await anyio.sleep(TICK_MS / 1000)
        if replica.status is Status.NORMAL and not replica.is_primary:
            log.info("stepped down", extra=fields(view=replica.view, primary=replica.primary_of(replica.view)))
        else:
            log.warning("nobody has taken over", extra=fields(view=replica.view))

    def stop(self) -> None:
        """End :meth:`run`; from the event loop's thread."""
        if self._stopping is not None:
            self._stopping.set()

    async def _watch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._admission.reload()
                    self._find_members()
                    continue
                log.info("stopping", extra=fields(signal=signal.Signals(number).name))
                self.stop()
                return

    def _find_members(self) -> None:
        """Read where the members are now."""
        if self._reread is None:
            return
        try:
            addresses = self._reread().members
        except ConfigurationError as error:
            log.error("addresses stay as they were", extra=fields(why=error))
            return
        self._dialler.find(addresses)
        self._observer.find(self._others(addresses))
        log.info("addresses read again", extra=fields(members=", ".join(map(str, sorted(addresses)))))

    def _others(self, addresses: Mapping[int, Address]) -> Group:
        """Return how the other members are reached."""
        others = {member: address for member, address in addresses.items() if member != self._config.member}
        return Group(self._config.cluster, others, self._keys, self._client_tls)

    # ---- the replica

    def _tick(self, due: float) -> None:
        """Let time go on; a hundred times a second, for which a task that sleeps costs half as much again."""
        due = max(due + TICK_MS / 1000, self._loop.time())
        self._ticking = self._loop.call_at(due, self._tick, due)
        self._step(Tick())
        self._observer.tick()

    def _step(self, event: Event | ReadDone | WriteDone) -> None:
        if self.halted is None and self._broken is None:
            try:
                self._carry_out(self.replica.step(time.time_ns(), event))
                if self.replica.commit_min != self._committed:
                    self._expect()
                due = self.replica.retention_due
                if due > self._hurried:
                    self._hurried = due
                    self._keeper.put(Hurry())
            except Exception as error:
                # Out of a callback of the event loop it would be logged, and the node go on.
                self._broken = error
                self.stop()

    # ---- a turn of the event loop

    def _filled(self, connection: Frames) -> None:
        self._speaking.append(connection)
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turning = False
        speaking, self._speaking = self._speaking, []
        for connection in speaking:
            connection.flush()
        if self._disk.due and not self._is_syncing:
            if not speaking:
                self._sync()
                return
            # Not now: an event loop may send at the end of a turn what it was given during it.
            self._is_syncing = True
            self._loop.call_soon(self._sync)

    def _sync(self) -> None:
        self._is_syncing = False
        self._disk.flush()
        while self._disk.due and not self._speaking:  # An entry's header follows it, before there is anything to say.
            self._disk.flush()

    def _expect(self) -> None:
        """A snapshot has taken the place of ops: look what records that led to it are not here."""
        self._committed = self.replica.commit_min
        state = self.replica.state
        if state is not None:
            streams = state.streams.items()
            ends = {name: End(stream.next_offset, stream.hash) for name, stream in streams if not stream.about.dropped}
            self._keeper.put(Expected(ends, frozenset(name for name, stream in streams if stream.about.dropped)))

    async def _catch_up(self) -> None:
        """Fetch records that are missing from other nodes, a piece at a time."""
        session, asked = None, self._others({})
        while True:
            await anyio.sleep(CATCH_UP_SECONDS)
            for missing in list(self._keeper.missing.values()):
                others = self._others(self._dialler.addresses)
                if not others.members:
                    break
                if session is None or others != asked:
                    session, asked = Session(others), others
                try:
                    fetched = await anyio.to_thread.run_sync(_fetch, session, missing, abandon_on_cancel=True)
                except GroupUnavailable as error:
                    log.warning(
                        "records are missing, and nobody sends them",
                        extra=fields(stream=missing.stream.hex(), why=error),
                    )
                    continue
                if fetched.records:
                    self._keeper.put(Caught(missing.stream, fetched.records))
                else:
                    session.ask_another()

    def _carry_out(self, effects: list[Effect]) -> None:
        encode = self._wire.encode
        last: object = None
        data = b""
        for effect in effects:
            if isinstance(effect, Send):
                connection = self._dialler.connection(effect.dst)
                if connection is not None:
                    if effect.message is not last:  # A broadcast is one message to many.
                        data, last = encode(effect.message), effect.message
                    if not connection.put(data):
                        self.counts["dropped to a peer"] += 1
            elif isinstance(effect, (Write, Read, Remove)):
                self._disk.put(effect)
            elif isinstance(effect, Committed):
                self.counts["committed ops"] += 1
                self._committed = effect.header.op
                self._keeper.keep(effect)
            elif isinstance(effect, Answer):
                self._answer(effect.client, effect.message)
            else:
                self._halt(effect.reason)
        if self._disk.due:
            self._turn_soon()

    def _halt(self, reason: str) -> None:
        if self.halted is None:
            log.error("halted", extra=fields(why=reason))
            self.halted = reason
            self.stop()

    def _answer(self, client: bytes, message: object) -> None:
        if isinstance(message, Reply):
            number, came = self._asked.get(client, (-1, 0.0))
            if number == message.number:
                del self._asked[client]
                self._answered(time.perf_counter() - came)
        connection = self._clients.get(client)
        if connection is not None:
            self._tell(connection, message)

    def _tell(self, connection: Frames, message: object) -> None:
        data = self._wire.encode(message)  # type: ignore[arg-type]  # replica and keeper answer
        if not connection.put(data) and not connection.lost.is_set():
            self.counts["hung up on who does not read"] += 1
            connection.hang_up()

    # ---- connections

    async def _let_in(self, listener: socket.socket, tasks: anyio.abc.TaskGroup) -> None:
        """Accept peers and clients."""
        while True:
            try:
                accepted, remote = await self._loop.sock_accept(listener)
            except OSError as error:  # Whoever has hung up already, or no more descriptors.
                log.warning("nobody can be let in", extra=fields(why=error))
                await anyio.sleep(PAUSE_SECONDS)
                continue
            if self._connections >= CLIENTS_MAX:
                self.counts["connections refused"] += 1
                accepted.close()
                continue
            self._connections += 1
            tasks.start_soon(self._be_host, accepted, remote)

    async def _be_host(self, accepted: socket.socket, remote: object) -> None:
        """Greet one peer or client, and forget it when it has gone."""
        guest = _Guest()

        def heard(_: Frames, data: bytes) -> None:
            self._hear(guest, data)

        connection = guest.connection = Frames(self._filled, heard, self._note_unheard)
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=self._server_tls, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
            await connection.lost.wait()
        except (OSError, TimeoutError) as error:
            refuse(error, remote, self.counts)
        finally:
            connection.hang_up()
            self._connections -= 1
            if guest.visitor is not None:
                self._admission.leave(guest.visitor)
            for client in guest.clients:
                if self._clients.get(client) is connection:
                    del self._clients[client]
                    self._asked.pop(client, None)

    def _note_unheard(self, dropped: Dropped) -> None:
        self._wire.dropped[dropped.reason] += 1

    def _note_dropped(self, visitor: Visitor) -> bool:
        """Log that there was something that is no message, ever more rarely; True: its sender is of no use."""
        dropped = self._wire.dropped
        count = dropped.total()
        if count & (count - 1) == 0:
            told = ", ".join(f"{number} because {reason.value}" for reason, number in dropped.items())
            log.warning("messages dropped", extra=fields(last_of=visitor, so_far=told))
        foreign = dropped[DropReason.FOREIGN] + dropped[DropReason.FORGED]
        self._foreign, before = foreign, self._foreign
        return foreign > before

    def _hear(self, guest: _Guest, data: bytes) -> None:
        """Take in one message of a peer or client, frame and all."""
        visitor = guest.visitor
        if visitor is None:
            visitor = guest.visitor = self._admission.enter(guest.connection.certificate)
        try:
            message = self._wire.hear(data)
        except Dropped as dropped:
            if dropped.reason is DropReason.VERSION:
                self._stranger = str(dropped)
            if self._note_dropped(visitor):
                guest.connection.hang_up()
            return
        if isinstance(message, (Request, ReadRequest, Reconfigure, FetchRecords, AskStatus)):
            why = self._admission.refusal(visitor, message)
            if why is not None:
                self._tell(guest.connection, Denied(message.client, message.number, why))
                return
            if isinstance(message, AskStatus):
                status = self._observer.status().encode()
                self._tell(guest.connection, TellStatus(message.client, message.number, status))
                return
            guest.clients.add(message.client)
            self._clients[message.client] = guest.connection
            if isinstance(message, FetchRecords):
                self._keeper.put(message)
                return
            if isinstance(message, Request) and self._asked.get(message.client, (-1,))[0] != message.number:
                self._asked[message.client] = (message.number, time.perf_counter())
        else:
            self._observer.heard(message)
            if not guest.is_peer:
                guest.is_peer = True
                self._dialler.heard(message.src)  # type: ignore[union-attr]  # as below
        self._step(Arrived(message))  # type: ignore[arg-type]  # the wire lets nothing else in


def _fetch(session: Session, missing: Missing) -> FetchedRecords:
    return session.fetch(missing.stream, *missing.here, bytes_max=FETCH_MAX, timeout=5.0)


def _first(error: BaseException) -> BaseException:
    """Return what went wrong, of tasks that ended together because of it."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _nothing(*_: object) -> None: ...


class _Guest:
    """Who is on a connection that was accepted."""

    connection: Frames

    def __init__(self) -> None:
        self.visitor: Visitor | None = None
        self.clients: set[bytes] = set()
        self.is_peer = False
        """Whether a member speaks."""
