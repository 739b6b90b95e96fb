"""What a replica makes durable, in which order, and what follows from it.

:class:`Storing` writes the superblock, and entries in the order that :mod:`veritydb.vsr.recovery` relies on. What is
committed it applies as far as it is durable here; every so many ops that makes a checkpoint, whose snapshot it writes
before the superblock names it. Completions come in through :mod:`~veritydb.vsr.replica`; the protocols above are told
of what they have led to (``_on_persisted``, ``_on_durable``, ``_on_applied``, ``_on_checkpoint``).
"""

from __future__ import annotations

from typing import NamedTuple

from veritydb import kernel
from veritydb.vsr.core import Core
from veritydb.vsr.effects import Committed, Image, Key, Remove, Write, Zone
from veritydb.vsr.entry import Entry, Header, Kind, checksum
from veritydb.vsr.messages import Checkpoint
from veritydb.vsr.options import Options
from veritydb.vsr.recovery import blank
from veritydb.vsr.superblock import Superblock, encode, superblock_checksum


class _EntryWrite(NamedTuple):
    header: Header


class _HeaderWrite(NamedTuple):
    header: Header


class _Invalidation(NamedTuple):
    op: int


class _SnapshotWrite(NamedTuple):
    root: bytes


class Storing(Core):
    """The storage of one member, and the state machine that its log drives."""

    def __init__(
        self, *, cluster: bytes, member: int, image: Image, seed: int, options: Options | None = None, release: int = 1
    ) -> None:
        super().__init__(cluster=cluster, member=member, image=image, seed=seed, options=options, release=release)
        self._token = 0
        self._block_write: tuple[int, Superblock, bytes] | None = None
        self._block_due = False
        self._block_checksum = b""
        self._writes: dict[int, _EntryWrite | _HeaderWrite | _Invalidation | _SnapshotWrite] = {}
        self._slots_busy: set[int] = set()
        self._entry_writes = 0
        self._next_checkpoint: Checkpoint | None = None
        self._next_snapshot: bytes | None = None
        self._next_due = False

    # ---- the superblock

    def _persist(self) -> None:
        """Make view, log view, the log's end and the checkpoint durable; :meth:`_on_persisted` follows."""
        self._block_due = True
        if self._block_write is None:
            self._write_block()

    def _write_block(self) -> None:
        self._block_due = False
        before = self.durable_block
        block = Superblock(
            cluster=self.cluster,
            member=self.member,
            sequence=before.sequence + 1,
            parent=self._block_checksum or superblock_checksum(encode(before)),
            epoch=self.epoch,
            members=self.members,
            view=self.view,
            log_view=self.log_view,
            commit_max=self.commit_max,
            checkpoint=self._next_checkpoint if self._next_due and self._next_checkpoint else self.checkpoint,
            headers=self._suffix_headers(),
            head=self.head,
        )
        data = encode(block)
        token = self._new_token()
        self._block_write = (token, block, superblock_checksum(data))
        self._out.append(Write(Zone.SUPERBLOCK, 0, data, token))

    def _write_again(self) -> None:
        """Write the superblock that was found into all its copies."""
        data = encode(self.durable_block)
        token = self._write(Zone.SUPERBLOCK, 0, data)
        self._block_write = (token, self.durable_block, superblock_checksum(data))

    def _block_written(self) -> None:
        assert self._block_write is not None
        _, block, own = self._block_write
        self._block_write = None
        self._check(
            block.view >= self.durable_block.view
            and (block.epoch, block.log_view) >= (self.durable_block.epoch, self.durable_block.log_view),
            "the durable view went back",
        )
        self.durable_block, self._block_checksum = block, own
        if block.checkpoint.op > self.checkpoint.op:
            self._checkpoint_written(block.checkpoint)
        if self._block_due:
            self._write_block()
        self._on_persisted()

    def _on_persisted(self) -> None:
        raise NotImplementedError

    # ---- writing

    def _new_token(self) -> int:
        self._token += 1
        return self._token

    def _write(self, zone: Zone, key: Key, data: bytes) -> int:
        token = self._new_token()
        self._out.append(Write(zone, key, data, token))
        return token

    def _keep(self, entry: Entry) -> None:
        """Take the body of an op of the log that is not durable here, and have it written."""
        self.bodies[entry.header.op] = entry
        self._unwritten.add(entry.header.op)
        self._pump_writes()

    def _pump_writes(self) -> None:
        """Begin writes in the order of their ops, so many at a time as :mod:`veritydb.vsr.recovery` reckons with.

        And none so far above the first that never was durable here, whether its header is known or not: were that one
        torn by a crash, recovery could not believe that it had been under way together with what is whole above it.
        """
        limit = min(self.op_max, max(self.durable_to, self.commit_min) + self.options.pipeline_max)
        for op in sorted(self._unwritten) if len(self._unwritten) > 1 else tuple(self._unwritten):
            if op > self.commit_min:
                limit = min(limit, op + self.options.pipeline_max - 1)
            if self._entry_writes >= self.options.pipeline_max or op > limit:
                return
            slot = op % self.options.slots
            entry = self.bodies.get(op)
            if entry is None or slot in self._slots_busy:
                continue
            self._slots_busy.add(slot)
            self._entry_writes += 1
            held = self.durable[slot]
            self.durable[slot] = None
            if held is not None and held.op == op and slot not in self.faulty:
                # The op was here in another version. Its header is taken back first: were it left to stand beside an
                # entry that a crash has torn, nobody could tell what was lost.
                token = self._write(Zone.HEADER, slot, blank(slot))
                self._writes[token] = _Invalidation(op)
            else:
                self._write_entry(entry, slot)

    def _write_entry(self, entry: Entry, slot: int) -> None:
        token = self._write(Zone.ENTRY, slot, entry.raw)
        self._writes[token] = _EntryWrite(entry.header)

    def _write_done(self, token: int) -> None:
        what = self._writes.pop(token, None)
        if isinstance(what, _EntryWrite):
            written, header = what.header, self.headers.get(what.header.op)
            if header is not None and header.checksum == written.checksum:
                after = self._write(Zone.HEADER, self._slot(written.op), written.raw)
                self._writes[after] = _HeaderWrite(written)
            else:
                self._free_slot(self._slot(written.op))
        elif isinstance(what, _HeaderWrite):
            written = what.header
            slot = self._slot(written.op)
            self.durable[slot] = written
            self.faulty.discard(slot)
            current, before = self._is_durable(written.op), self.durable_to
            if current:
                self._unwritten.discard(written.op)
                self._advance_durable()  # What waited for this one may be written now.
            self._free_slot(slot)
            if current:
                self._on_durable(before)
        elif isinstance(what, _Invalidation):
            slot = self._slot(what.op)
            entry = self.bodies.get(what.op)
            if entry is not None:
                self._write_entry(entry, slot)
            else:
                self._free_slot(slot)
        elif isinstance(what, _SnapshotWrite):
            self._snapshot_written(what.root)
            self._write_snapshot()  # Another may have been due in the meantime.

    def _free_slot(self, slot: int) -> None:
        self._slots_busy.discard(slot)
        self._entry_writes -= 1
        self._pump_writes()

    def _on_durable(self, before: int) -> None:
        """Entries have become durable; all above ``before`` up to ``durable_to`` may be acknowledged now."""
        raise NotImplementedError

    # ---- applying

    def _apply(self) -> None:
        """Apply what is committed, in order, as far as it is durable here."""
        while self.commit_min < self.commit_max and self.state is not None and self._chain_complete:
            op = self.commit_min + 1
            header, entry = self.headers[op], self.bodies.get(op)
            if not self._is_durable(op):
                return
            if entry is None:
                self._recall(op)
                return
            if header.parent != self.commit_checksum:
                self._halt(f"op {op} does not build on what is committed here")
                return
            outputs: tuple[kernel.Output, ...] = ()
            if header.kind is Kind.COMMANDS:
                self.state, outputs = kernel.apply_batch(self.state, op, header.timestamp, entry.body)
            else:
                self.state = kernel.apply_noop(self.state, op, header.timestamp)
            self.commit_min = op
            self.commit_checksum = header.checksum
            self._out.append(Committed(header, outputs))
            self._on_applied(header, entry, outputs)
            if self._unwritten:
                self._pump_writes()  # Something may have been too far above what was committed.
            self.bodies.pop(op - self.options.cached_max, None)
            if header.kind is Kind.RECONFIGURE:
                self._on_members(header, entry.body)
            if op == self.checkpoint.op + self.options.checkpoint_interval and not self._next_due:
                # It goes before one that is being fetched: the journal has no room for what follows without it.
                snapshot = kernel.snapshot(self.state)
                self._next_checkpoint = Checkpoint(op, header.checksum, checksum(snapshot), len(snapshot))
                self._next_snapshot = snapshot
                self._write_snapshot()

    def _recall(self, op: int) -> None:
        """An op that is durable here is needed, and not in memory: read it."""
        raise NotImplementedError

    def _on_members(self, header: Header, body: bytes) -> None:
        raise NotImplementedError

    def _on_applied(self, header: Header, entry: Entry, outputs: tuple[kernel.Output, ...]) -> None:
        raise NotImplementedError

    # ---- checkpoints

    def _write_snapshot(self) -> None:
        """Write the next checkpoint's snapshot as soon as the outputs that led to it here are kept."""
        point, snapshot = self._next_checkpoint, self._next_snapshot
        if point is None or snapshot is None or self._next_due or not self._outputs_kept(point):
            return
        if any(isinstance(write, _SnapshotWrite) for write in self._writes.values()):
            return
        token = self._write(Zone.SNAPSHOT, point.root, snapshot)
        self._writes[token] = _SnapshotWrite(point.root)

    @property
    def retention_due(self) -> int:
        """The op up to which outputs have to be durable before the next checkpoint can be; 0: none waits for that.

        Only so many ops as a pipeline holds are written until it is: the driver does well to hurry.
        """
        point = self._next_checkpoint
        return 0 if point is None or self._outputs_kept(point) else point.op

    def _outputs_kept(self, point: Checkpoint) -> bool:
        """Whether what was applied here up to ``point`` is durable as records; what was not, others keep."""
        return point.op <= self.retained or point.op > self.commit_min

    def _snapshot_written(self, root: bytes) -> None:
        """The snapshot of the next checkpoint is durable: the superblock may name it."""
        self._next_due = True
        self._persist()

    def _checkpoint_written(self, point: Checkpoint) -> None:
        """The superblock names a new checkpoint: what lies far below it is not needed any more."""
        assert self._next_checkpoint == point, "a checkpoint is not given up while the superblock is being written"
        old = self.checkpoint
        self.snapshot_before = (old.root, self.snapshot) if self.snapshot is not None else None
        self.checkpoint = point
        self.snapshot, self._next_snapshot = self._next_snapshot, None
        self._next_checkpoint, self._next_due = None, False
        self._out.append(Remove(Zone.SNAPSHOT, old.root))
        lowest = point.op - self.options.checkpoint_interval - self.options.pipeline_max
        for op in [op for op in self.headers if op < lowest]:
            del self.headers[op]
        self.chain_min = max(self.chain_min, min(self.headers))
        for op in [op for op in self.bodies if op <= point.op - self.options.cached_max]:
            del self.bodies[op]
        self._unwritten = {op for op in self._unwritten if op > point.op}
        self.durable_to = max(self.durable_to, point.op)
        self._advance_durable()
        self._pump_writes()
        self._on_checkpoint()

    def _on_checkpoint(self) -> None:
        """A checkpoint is durable: there is room in the journal again."""
        raise NotImplementedError
