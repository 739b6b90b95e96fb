"""A group of replicas on a stage: a script says what happens, and every effect is written down.

Nothing moves by itself. Messages lie on their links until the script delivers or drops them, timers run out when it
says so, writes end at once unless it holds them. ``tests/test_transcripts.py`` reads scripts from
``tests/transcripts``; the table below is their language.

==========================  =========================================================================================
``group N [learner M ..]``  members 0 to N - 1 with new disks, and the first view begins; ``cold``: nobody starts
``options NAME=N ..``       sizes, before ``group``
``ask M CLIENT``            the client's next request reaches member M: it registers, and then creates streams
``again M CLIENT``          its last request reaches member M once more
``changed M CLIENT``        a request with the number of its last one, and another command
``unknown M CLIENT [VIEW]`` a request of a session that nobody knows, from a client that has heard of that view
``read M CLIENT``           a question for the committed head of a stream
``members M 0 1 ..``        somebody asks member M for these members; ``old E`` at the end: asked so in epoch E
``deliver [A->B] [KIND]``   what is under way on these links arrives (all links, all kinds), not what it brings about
``drop [A->B] [KIND]``      it is lost
``repeat [A->B] KIND``      the last such message that was under way arrives once more
``hold M``, ``finish M [N]``  member M's writes stay unfinished; its oldest N of them, or all, are done
``slow M ZONE [SLOT]``      its writes to that zone, or to that slot of it, stay unfinished, until ``release M``
``slow M outputs``          what its commits put out is not kept as records, until ``release M``
``lose M``, ``fail M``      its oldest unfinished write is reported done and is not there; fails
``release M``               all of its writes are done, and later ones are at once again
``expire M TIMER``          a timer runs out
``crash M [kept]``          its process ends; writes that are unfinished are lost, or kept
``start M``                 it starts from its disk
``rot M PLACE KEY``         a place on its disk becomes unreadable: ``entry``, ``header``, ``superblock``, ``snapshot``
``restore M``, ``keep M``   put back the whole disk as it was when it was kept
``blank M VIEW``            a new disk for the same member, that takes part from this view on
``cut A->B ..``, ``heal``   what is sent on these links is lost, until ``heal``
``pass N``                  so many ticks, in which everything arrives; only commits, answers and halts are told
``times N A ; B``           so many times these commands, of which the last time is told
``show M ..``               where members are
``quiet KIND ..``           effects of these kinds are not told: messages by name, ``writes``, ``reads``
==========================  =========================================================================================

``op 3 of view 2`` is written ``3@2``: there is at most one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, groupby
from typing import Any

from tests.support import telling
from tests.support.members import CLUSTER, OPTIONS, ROOT, SNAPSHOT, Disk
from veritydb import kernel
from veritydb.vsr.core import CannotStart, Halted
from veritydb.vsr.effects import (
    Answer,
    Arrived,
    Committed,
    Event,
    Halt,
    Read,
    ReadDone,
    Remove,
    Retained,
    Send,
    Tick,
    Write,
    WriteDone,
    Zone,
)
from veritydb.vsr.messages import ReadRequest, Reconfigure, Reply, Request
from veritydb.vsr.replica import Replica
from veritydb.vsr.superblock import COPIES, SuperblockDamaged, as_copy, first_superblock

PLACEMENT = kernel.Placement(kernel.DataClass.NON_PHI, "")
_QUIET = frozenset({"Ping", "Pong"})


class ScriptError(Exception):
    """The script says something that cannot be done; the transcript says ``?``."""


class _Client:
    def __init__(self, name: str) -> None:
        self.id = name.encode().ljust(16, b".")
        self.session = self.number = self.reads = 0
        self.last: Request | None = None


class Stage:
    """Members, what is under way between them, and the trace of the present command."""

    def __init__(self) -> None:
        self.options = OPTIONS
        self._clear()

    def _clear(self) -> None:
        self._seeds = count(1)
        self.members: tuple[int, ...] = ()
        self.replicas: dict[int, Replica] = {}
        self.disks: dict[int, Disk] = {}
        self.kept: dict[int, Disk] = {}
        self.under_way: list[tuple[int, int, Any]] = []
        self.past: list[tuple[int, int, Any]] = []
        self.cuts: set[tuple[int, int]] = set()
        self.held: dict[int, list[Write] | None] = {}
        self.slow: dict[int, tuple[Zone, int | None]] = {}
        self.unkept: dict[int, int] = {}
        self.clients: dict[str, _Client] = {}
        self.committed: dict[int, bytes] = {}
        self.quiet = set(_QUIET)
        self.lines: list[str] = []
        self._passing = False

    def command(self, line: str) -> list[str]:
        """Carry out one line of a script; return what happened."""
        self.lines = []
        verb, *words = line.split()
        act: Callable[..., None] | None = getattr(self, f"do_{verb}", None)
        if act is None:
            raise ScriptError(f"no such command: {line}")
        try:
            act(*words)
        except ScriptError as error:
            self.lines.append(f"? {error}")
        return self._gathered()

    def hear(self, member: int, message: Any) -> list[str]:
        """Have a message arrive that no member has sent; return what happened."""
        return self.happen(member, Arrived(message))

    def happen(self, member: int, event: Event) -> list[str]:
        """Have an event come to a member; return what happened."""
        self.lines = []
        self._step(member, event)
        return self._gathered()

    def play(self, *lines: str) -> list[str]:
        """Carry out lines of a script; return what happened at the last one."""
        told: list[str] = []
        for line in lines:
            told = self.command(line)
            assert not any(line.startswith("?") for line in told), told
        return told

    def _gathered(self) -> list[str]:
        """Return the lines, with one message to several members as one line."""
        told: list[str] = []
        for key, group in groupby(self.lines, key=_same_message):
            lines = list(group)
            if key is None:
                told += lines
            else:
                src, words = key
                told.append(f"{src} -> {' '.join(line.split(' ', 3)[2] for line in lines)}  {words}")
        return told

    # ---- what a script says

    def do_options(self, *words: str) -> None:
        self.options = self.options._replace(**{name: int(n) for name, n in (word.split("=") for word in words)})
        self.options.check()

    def do_group(self, size: str, *words: str) -> None:
        self._clear()
        self.members = tuple(range(int(size)))
        learners = [int(word) for word in words if word.isdigit()]
        for member in (*self.members, *learners):
            self._new_disk(member, 0)
            self.held[member] = None
        if "cold" in words:
            return
        for member in (*self.members, *learners):
            self.do_start(str(member))
        for _ in range(40):
            self._settle()
            if all(self.replicas[member].status == 1 and self.replicas[member].commit_min for member in self.members):
                break
            self._tick()
        self._settle()
        self.lines.clear()
        self.past.clear()
        self.do_show(*map(str, self.members))

    def _new_disk(self, member: int, view: int) -> None:
        self.disks[member] = Disk(
            first_superblock(
                cluster=CLUSTER, member=member, members=self.members, root=ROOT.header, snapshot=SNAPSHOT, view=view
            ),
            self.options,
        )

    def do_blank(self, member: str, view: str) -> None:
        self._new_disk(int(member), int(view))

    def do_ask(self, member: str, name: str) -> None:
        client = self.clients.setdefault(name, _Client(name))
        if client.last is not None:
            client.number += 1
        command = kernel.CreateStream(bytes([client.number]) * 16, PLACEMENT) if client.number else kernel.Register()
        client.last = Request(client.id, client.session, client.number, kernel.encode_command(command), 0)
        self._step(int(member), Arrived(client.last))

    def do_again(self, member: str, name: str) -> None:
        last = self.clients[name].last
        assert last is not None
        self._step(int(member), Arrived(last))

    def do_unknown(self, member: str, name: str, view: str = "0") -> None:
        last = self.clients[name].last
        assert last is not None
        self._step(int(member), Arrived(last._replace(session=1 << 40, view=int(view))))

    def do_changed(self, member: str, name: str) -> None:
        last = self.clients[name].last
        assert last is not None
        command = kernel.encode_command(kernel.ListStreams(0, 1))
        self._step(int(member), Arrived(last._replace(command=command)))

    def do_read(self, member: str, name: str) -> None:
        client = self.clients.setdefault(name, _Client(name))
        client.reads += 1
        self._step(int(member), Arrived(ReadRequest(client.id, client.reads, bytes([1]) * 16)))

    def do_members(self, member: str, *members: str) -> None:
        epoch = self.replicas[int(member)].epoch
        if "old" in members:
            *members, _, old = members
            epoch = int(old)
        self._step(int(member), Arrived(Reconfigure(b"people".ljust(16, b"."), 1, tuple(map(int, members)), epoch)))

    def do_deliver(self, *words: str) -> None:
        for letter in self._matching(words):
            self.under_way.remove(letter)
            self._arrive(letter)

    def do_drop(self, *words: str) -> None:
        for letter in self._matching(words):
            self.under_way.remove(letter)

    def do_repeat(self, *words: str) -> None:
        matching = [letter for letter in self.past if _matches(letter, words)]
        if not matching:
            raise ScriptError(f"nothing like that was ever sent: {words}")
        self._arrive(matching[-1])

    def _matching(self, words: tuple[str, ...]) -> list[tuple[int, int, Any]]:
        found = [letter for letter in self.under_way if _matches(letter, words)]
        if words and not found:
            there = [f"{src}->{dst} {type(message).__name__}" for src, dst, message in self.under_way]
            raise ScriptError(f"nothing is under way like {' '.join(words)}, but {there}")
        return found

    def do_hold(self, member: str) -> None:
        self.held[int(member)] = []

    def do_slow(self, member: str, zone: str, slot: str | None = None) -> None:
        if zone == "outputs":
            self.unkept[int(member)] = 0
            return
        self.slow[int(member)] = Zone[zone.upper()], None if slot is None else int(slot)
        self.held[int(member)] = []

    def do_finish(self, member: str, number: str = "1000") -> None:
        for _ in range(int(number)):
            held = self.held[int(member)]
            if not held:
                return
            self._written(int(member), held.pop(0))

    def do_release(self, member: str) -> None:
        self.slow.pop(int(member), None)
        self.do_finish(member)
        self.held[int(member)] = None
        if op := self.unkept.pop(int(member), 0):
            self._step(int(member), Retained(op))

    def do_lose(self, member: str) -> None:
        write = self._oldest(member)
        self._step(int(member), WriteDone(write.token, True))

    def do_fail(self, member: str) -> None:
        write = self._oldest(member)
        self._step(int(member), WriteDone(write.token, False))

    def _oldest(self, member: str) -> Write:
        held = self.held[int(member)]
        if not held:
            raise ScriptError("nothing is being written")
        return held.pop(0)

    def do_expire(self, member: str, timer: str) -> None:
        replica = self.replicas[int(member)]
        if timer not in replica._timers:
            raise ScriptError(f"member {member} has no timer {timer}, but {sorted(replica._timers)}")
        timers = dict(replica._timers)
        replica._timers.clear()
        replica._timers[timer] = 1
        self._step(int(member), Tick())
        replica._timers = {**{name: left for name, left in timers.items() if name != timer}, **replica._timers}

    def do_crash(self, member: str, how: str = "lost") -> None:
        number = int(member)
        for write in self.held[number] or ():
            if how == "kept":
                self._put(number, write)
        del self.replicas[number]
        self.held[number] = None
        self.slow.pop(number, None)
        self.unkept.pop(number, None)
        self.under_way = [letter for letter in self.under_way if letter[1] != number]

    def do_start(self, member: str) -> None:
        number = int(member)
        try:
            replica = Replica(
                cluster=CLUSTER,
                member=number,
                image=self.disks[number].image(),
                seed=next(
                    self._seeds
                ),  # Another one at each start, as a node draws it: what was asked before is known.
                options=self.options,
            )
            effects = replica.start(0)
        except (CannotStart, SuperblockDamaged) as error:
            self.lines.append(f"{number} does not start: {error}")
            return
        self.replicas[number] = replica
        self._carry_out(number, effects)

    def do_rot(self, member: str, place: str, key: str = "0") -> None:
        disk, number = self.disks[int(member)], int(key)
        if place == "superblock":
            disk.superblock[number] = None
        elif place == "snapshot":
            disk.snapshots.clear()
        else:
            area = disk.entries if place == "entry" else disk.headers
            area[number % self.options.slots] = None

    def do_keep(self, member: str) -> None:
        self.kept[int(member)] = self._copy(self.disks[int(member)])

    def do_restore(self, member: str) -> None:
        self.disks[int(member)] = self._copy(self.kept[int(member)])

    def _copy(self, disk: Disk) -> Disk:
        copy = Disk(options=self.options)
        copy.superblock, copy.entries, copy.headers = list(disk.superblock), list(disk.entries), list(disk.headers)
        copy.snapshots = dict(disk.snapshots)
        return copy

    def do_cut(self, *links: str) -> None:
        self.cuts |= {_link(word) for word in links}

    def do_heal(self) -> None:
        self.cuts.clear()

    def do_pass(self, ticks: str) -> None:
        self._passing = True
        for _ in range(int(ticks)):
            self._settle()
            self._tick()
        self._settle()
        self._passing = False

    def _settle(self) -> None:
        while self.under_way:
            self._arrive(self.under_way.pop(0))

    def _tick(self) -> None:
        for member in sorted(self.replicas):
            if self.replicas[member].halted is None:
                self._step(member, Tick())

    def do_times(self, number: str, *words: str) -> None:
        for _ in range(int(number)):
            self.lines.clear()
            for line in " ".join(words).split(" ; "):
                verb, *rest = line.split()
                getattr(self, f"do_{verb}")(*rest)

    def do_show(self, *members: str) -> None:
        for member in members:
            self.lines.append(f"{member}: {telling.where(self.replicas.get(int(member)))}")

    def do_quiet(self, *kinds: str) -> None:
        self.quiet = set(_QUIET) | set(kinds)

    # ---- what comes of it

    def _arrive(self, letter: tuple[int, int, Any]) -> None:
        _, dst, message = letter
        if dst in self.replicas:
            self._step(dst, Arrived(message))

    def _step(self, member: int, event: Event) -> None:
        replica = self.replicas[member]
        try:
            effects = replica.step(0, event)
        except Halted:
            return
        self._carry_out(member, effects)

    def _carry_out(self, member: int, effects: list[Any]) -> None:
        replica = self.replicas[member]
        for effect in effects:
            self._tell(member, effect)
            if isinstance(effect, Send):
                letter = (member, effect.dst, effect.message)
                self.past.append(letter)
                if (member, effect.dst) not in self.cuts:
                    self.under_way.append(letter)
            elif isinstance(effect, Committed):
                header = effect.header
                known = self.committed.setdefault(header.op, header.checksum)
                assert known == header.checksum, f"two histories at op {header.op}"
            elif isinstance(effect, Answer) and isinstance(effect.message, Reply):
                for client in self.clients.values():
                    if client.id == effect.client and not effect.message.number:
                        client.session = effect.message.session or client.session
        # What the disk and the keeper of outputs report comes after the step that asked for it.
        for effect in effects:
            if replica.halted is not None or self.replicas.get(member) is not replica:
                return
            if isinstance(effect, Write):
                held = self.held[member]
                zone, slot = self.slow.get(member, (effect.zone, None))
                if held is None or zone is not effect.zone or slot not in (None, effect.key):
                    self._written(member, effect)
                else:
                    held.append(effect)
            elif isinstance(effect, Committed):
                if member in self.unkept:
                    self.unkept[member] = effect.header.op
                else:
                    self._step(member, Retained(effect.header.op))
            elif isinstance(effect, Read):
                self._step(member, ReadDone(effect.token, self.disks[member].entries[int(effect.key)]))  # type: ignore[arg-type]  # a read of the journal is of an entry, which is bytes

    def _written(self, member: int, write: Write) -> None:
        self._put(member, write)
        self._step(member, WriteDone(write.token, True))

    def _put(self, member: int, write: Write) -> None:
        disk, key = self.disks[member], write.key
        if write.zone is Zone.SUPERBLOCK:
            disk.superblock = [as_copy(write.data, number) for number in range(COPIES)]
        elif isinstance(key, bytes):
            disk.snapshots[key] = write.data
        else:
            (disk.entries if write.zone is Zone.ENTRY else disk.headers)[key] = write.data

    # ---- in words

    def _tell(self, member: int, effect: Any) -> None:
        if isinstance(effect, Send):
            kind = type(effect.message).__name__
            if kind not in self.quiet and not self._passing:
                cut = "   (cut)" if (member, effect.dst) in self.cuts else ""
                self.lines.append(f"{member} -> {effect.dst}  {telling.message(effect.message)}{cut}")
        elif isinstance(effect, Write):
            if "writes" not in self.quiet and not self._passing:
                self.lines.append(f"{member} writes {telling.written(effect)}")
        elif isinstance(effect, Read):
            if "reads" not in self.quiet and not self._passing:
                self.lines.append(f"{member} reads the entry in slot {effect.key}")
        elif isinstance(effect, Committed):
            if "commits" not in self.quiet:
                self.lines.append(f"{member} commits {telling.name(effect.header)}")
        elif isinstance(effect, Answer):
            who = effect.client.rstrip(b".").decode()
            self.lines.append(f"{member} => {who}  {telling.answer(effect.message)}")
        elif isinstance(effect, Halt):
            self.lines.append(f"{member} halts: {effect.reason}")
        else:
            assert isinstance(effect, Remove)


def _same_message(line: str) -> tuple[str, str] | None:
    parts = line.split(" ", 3)
    if len(parts) == 4 and parts[1] == "->" and not line.endswith("(cut)"):
        return parts[0], parts[3].strip()
    return None


def _link(word: str) -> tuple[int, int]:
    src, _, dst = word.partition("->")
    return int(src), int(dst)


def _matches(letter: tuple[int, int, Any], words: tuple[str, ...]) -> bool:
    src, dst, message = letter
    for word in words:
        if "->" in word:
            if _link(word) != (src, dst):
                return False
        elif word != type(message).__name__:
            return False
    return True
