"""Getting what is missing: headers, entries, a whole snapshot.

Headers come first, backwards from the head, each accepted because the one above names it; then entries, each because
its header names it. So it does not matter whom one asks, or what he is in. Nothing here moves ``head``: a repair that
did would let a log of another view in (TigerBeetle's ``repair_header`` tells the story).

A member so far behind that the others no longer have its next op gets a snapshot. It is fetched beside everything else,
and only when it is whole and durable, one superblock write switches to it, together with the log's end that a primary
has sent: what could fail has not failed by then, and nothing was given up for it.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from veritydb import kernel
from veritydb.vsr.core import Status
from veritydb.vsr.effects import Image, Read, Zone
from veritydb.vsr.entry import BadEntry, Header, checksum, read_entry
from veritydb.vsr.messages import (
    Checkpoint,
    GetHeaders,
    GetPrepare,
    GetSnapshot,
    Headers,
    PeerMessage,
    Repair,
    SnapshotChunk,
    StartView,
)
from veritydb.vsr.normal import Normal
from veritydb.vsr.options import Options

PATIENCE = 16
"""Repairs that bring nothing, after which a snapshot is fetched although the others should still have the ops."""


class _Serving(NamedTuple):
    """An entry that is being read: for a member that asked, or, with ``dst`` None, to see whether it is whole."""

    dst: int | None
    op: int
    checksum: bytes


class Repairing(Normal):
    """Headers, entries, snapshots: asked for and given."""

    def __init__(
        self, *, cluster: bytes, member: int, image: Image, seed: int, options: Options | None = None, release: int = 1
    ) -> None:
        super().__init__(cluster=cluster, member=member, image=image, seed=seed, options=options, release=release)
        self._serving: dict[int, _Serving] = {}
        self._fetching: Checkpoint | None = None
        """The snapshot that is being fetched."""
        self._fetched = bytearray()
        self._pieces_in_vain = 0
        """How often a piece was asked for since the last one came."""
        self._sync: StartView | None = None
        """What to install together with the snapshot that was fetched."""
        self._asked: set[int] = set()
        """Ops whose entries were asked for last, and have not come."""
        self._scrub_op = 0
        self._asked_in_vain = 0
        """How often something was asked for since the log here last grew; then perhaps nobody has it any more."""
        self._best = (0, self.chain_min, len(self._unwritten))
        """The best that repair has come to: applied up to, headers down to, entries missing."""

    # ---- what is missing here

    def _repair(self) -> None:
        """Ask for what is missing, of a member drawn by lot. Runs on its timer for as long as something is."""
        self._start_timer("repair", self.options.repair, spread=2)
        # In a view change nobody knows yet which log it will be, but what is committed is in each of them.
        top = self.head if self.status is Status.NORMAL or self._knows_log() else self.commit_max
        if self.status is Status.RECOVERING_HEAD or (top < self.head and top == self.commit_min):
            return
        peer = self._peer()
        if peer is None:
            return
        missing = list(islice((header for header in self._missing() if header.op <= top), self.options.repairs_max))
        self._count_vain(lacks=bool(missing) or not self._chain_complete)
        if not self._chain_complete:
            low = max(self.commit_min + 1, self.chain_min - self.options.headers_max)
            self._send(peer, GetHeaders(self.epoch, self.view, self.member, low, self.chain_min - 1))
        self._asked = {header.op for header in missing}
        for header in missing:
            self._ask(GetPrepare(self.epoch, self.view, self.member, header.op, header.checksum))
        if self._asked_in_vain > PATIENCE and not self._serving:
            # Nobody has them. A disk that could not read what it had may be able to, after all.
            for header in missing:
                self._read_entry(None, header.op, header.checksum)

    def _ask(self, message: PeerMessage) -> None:
        """Send to a member drawn by lot."""
        peer = self._peer()
        assert peer is not None, "a member that is alone has all there is"
        self._send(peer, message)

    def _count_vain(self, *, lacks: bool) -> None:
        # Against the best there was, not the last: each view begins with a short log's end, whose headers then are
        # repaired to where they were before, and that is no progress.
        commit, chain, unwritten = self._best
        now = (self.commit_min, self.chain_min, len(self._unwritten))
        if not lacks or now[0] > commit:
            self._best, self._asked_in_vain = now, 0
        elif now[1] < chain or now[2] < unwritten:
            self._best, self._asked_in_vain = (commit, min(chain, now[1]), min(unwritten, now[2])), 0
        else:
            self._asked_in_vain += 1

    def _knows_log(self) -> bool:
        """Whether this member, in a view change, has the log of the view to come."""
        raise NotImplementedError

    def on_headers(self, message: Headers) -> None:
        """Take the headers that connect to what is known."""
        if self.status is Status.RECOVERING_HEAD or self._chain_complete:
            return
        for header in message.headers:
            if (
                header.op == self.chain_min - 1
                and header.op > self.commit_min
                and header.checksum == self.headers[self.chain_min].parent
            ):
                self._set_header(header)
                self._extend_chain()
        self._advance_durable()
        self._pump_writes()
        self._apply()
        if not self._chain_complete and self.chain_min in {header.op for header in message.headers[-1:]}:
            self._start_timer("repair", 1)  # All of it was of use: the next piece at once.

    def on_repair(self, message: Repair) -> None:
        """Take an entry that is missing."""
        header = message.entry.header
        known = self.headers.get(header.op)
        if (
            known is not None
            and known.checksum == header.checksum
            and header.op >= self.chain_min
            and header.op in self._unwritten
            and header.op not in self.bodies
        ):
            self._keep(message.entry)
            if header.op in self._asked:
                self._asked.discard(header.op)
                if not self._asked:
                    self._start_timer("repair", 1)  # All that was asked for has come: the next piece at once.

    # ---- what others miss

    def on_get_headers(self, message: GetHeaders) -> None:
        """Send the headers asked for, in one chain from the highest."""
        headers: list[Header] = []
        top = min(message.op_max, self.head)
        for op in range(top, max(message.op_min, top - self.options.headers_max + 1) - 1, -1):
            header = self.headers.get(op)
            if header is None or self.commit_min < op < self.chain_min:
                # Not known to be of this log. Whoever asks can tell, for the header above names it.
                header = self.durable[self._slot(op)]
            if header is None or header.op != op or (headers and headers[-1].parent != header.checksum):
                break
            headers.append(header)
        if headers:
            self._send(message.src, Headers(self.epoch, self.view, self.member, tuple(headers)))

    def on_get_prepare(self, message: GetPrepare) -> None:
        """Send the entry asked for, if its bytes are here; silence otherwise."""
        entry = self.bodies.get(message.op)
        if entry is not None and entry.header.checksum == message.checksum:
            self._send(message.src, Repair(self.epoch, self.view, self.member, entry))
        elif self._durable_checksum(message.op) == message.checksum and len(self._serving) < self.options.repairs_max:
            self._read_entry(message.src, message.op, message.checksum)

    def _read_entry(self, dst: int | None, op: int, own: bytes) -> None:
        token = self._new_token()
        self._serving[token] = _Serving(dst, op, own)
        self._out.append(Read(Zone.ENTRY, self._slot(op), token))

    def _read_done(self, token: int, data: bytes | None) -> None:
        serving = self._serving.pop(token, None)
        if serving is None:
            return
        try:
            entry = read_entry(data) if data is not None else None
        except BadEntry:
            entry = None
        if entry is not None and entry.header.checksum == serving.checksum:
            repair = Repair(self.epoch, self.view, self.member, entry)
            if serving.dst is not None:
                self._send(serving.dst, repair)
            elif serving.op in self._unwritten:
                self.on_repair(repair)
            elif serving.op > self.commit_min and serving.op not in self.bodies and self._is_durable(serving.op):
                self.bodies[serving.op] = entry
                self._apply()
            return
        slot = self._slot(serving.op)
        if self._durable_checksum(serving.op) == serving.checksum and slot not in self._slots_busy:
            # It was durable here and has rotted. Nobody may hear that it never was.
            known = serving.op >= self.chain_min or serving.op <= self.commit_min
            of_this_log = known and self._is_durable(serving.op)
            self.durable[slot] = None
            self.faulty.add(slot)
            if of_this_log and serving.op > self.checkpoint.op:
                self._unwritten.add(serving.op)
                self._pump_writes()

    def _recall(self, op: int) -> None:
        reading = {serving.op for serving in self._serving.values() if serving.dst is None}
        # The ones behind it, too: each by itself would wait for what the disk is doing.
        for each in range(op, min(op + self.options.repairs_max // 2, self.commit_max + 1)):
            own = self._durable_checksum(each)
            if own is None or own != self.headers[each].checksum:
                return
            if each not in self.bodies and each not in reading:
                self._read_entry(None, each, own)

    def _scrub(self) -> None:
        """Read one entry above the checkpoint, to find what has rotted while others still have it."""
        self._start_timer("scrub", self.options.repair)
        low, high = self.checkpoint.op + 1, self.commit_min
        if low > high or self._serving:
            return
        self._scrub_op = self._scrub_op + 1 if low <= self._scrub_op < high else low
        own = self._durable_checksum(self._scrub_op)
        if own is not None:
            self._read_entry(None, self._scrub_op, own)

    # ---- snapshots

    def on_get_snapshot(self, message: GetSnapshot) -> None:
        """Send a piece of the checkpoint's snapshot, if it is the one asked for."""
        before = self.snapshot_before
        snapshot = self.snapshot if message.root == self.checkpoint.root else None
        if before is not None and message.root == before[0]:
            snapshot = before[1]
        if snapshot is None or message.offset >= len(snapshot):
            return
        piece = snapshot[message.offset : message.offset + self.options.chunk_size]
        self._send(
            message.src,
            SnapshotChunk(self.epoch, self.view, self.member, message.root, message.offset, len(snapshot), piece),
        )

    def _needs_snapshot(self, point: Checkpoint) -> bool:
        """Whether others, whose checkpoint is ``point``, may no longer have the op that comes next here."""
        if self._asked_in_vain > PATIENCE and self.commit_min < point.op:
            return True  # They may have it from a snapshot themselves.
        return self.commit_min < point.op - self.options.checkpoint_interval

    def _fetch(self, point: Checkpoint) -> None:
        """Fetch a snapshot, if no other that will do is being fetched already."""
        fetching = self._fetching
        if (
            fetching is None
            or fetching.op < point.op - self.options.checkpoint_interval
            or (fetching.op < point.op and self._pieces_in_vain > PATIENCE)  # Those who had it may have started anew.
        ):
            self._fetching = point
            self._fetched.clear()
            self._pieces_in_vain = 0
            self._ask_snapshot()

    def _ask_snapshot(self, who: int | None = None) -> None:
        """Ask for the next piece: whoever sent the last one, and if nothing came, a member drawn by lot."""
        point = self._fetching
        assert point is not None, "the timer ends with the snapshot"
        self._start_timer("sync", self.options.sync_retry)
        self._pieces_in_vain += 1
        request = GetSnapshot(self.epoch, self.view, self.member, point.root, len(self._fetched))
        if who is None:
            self._ask(request)
        else:
            self._send(who, request)

    def on_snapshot_chunk(self, message: SnapshotChunk) -> None:
        """Take the next piece; verify the whole by its root."""
        point = self._fetching
        if point is None or message.root != point.root or message.offset != len(self._fetched) or not message.data:
            return
        self._fetched += message.data
        self._pieces_in_vain = 0
        if len(self._fetched) < point.size:
            self._ask_snapshot(message.src)
            return
        data = bytes(self._fetched[: point.size])
        self._fetched.clear()
        self._fetching = None
        self._stop_timer("sync")
        if len(data) != point.size or checksum(data) != point.root:
            self._fetch(point)  # A piece was not of this snapshot: from the beginning.
            return
        if point.root == self.checkpoint.root and self.state is None:
            # Only the file was lost: what it held is what the superblock names.
            self.state = kernel.restore(data)
            self.snapshot = data
            self._write(Zone.SNAPSHOT, point.root, data)
            self._apply()
        elif point.op > self.checkpoint.op:
            self._snapshot_fetched(point, data)

    def _snapshot_fetched(self, point: Checkpoint, data: bytes) -> None:
        raise NotImplementedError
