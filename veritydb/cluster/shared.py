"""A stream of a cluster as a database: which one it is, and how a machine that has nothing gets its copy.

:class:`SharedStream` is what ``connect(cluster=…)`` makes of its arguments, for :func:`veritydb.streams.open_stream`. A
first connection makes the stream if there is none, copies what it holds into the log's folder beside the database, and
leaves it to recovery to make the file from that, as from any log whose file is missing.

The keys come with the stream. Its first record is the key file, in which the database keys are wrapped by the
passphrase or the raw key of the user (:mod:`veritydb.keys`); the second one, sealed, says how files of it are made. Who
has the same key and an empty folder has all that it takes; the nodes have nothing that opens a record.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from veritydb import keys
from veritydb.chain import ZERO_HASH, Kind, pack_header
from veritydb.cluster.files import write_new
from veritydb.cluster.group_log import GroupLog, Sequencer
from veritydb.cluster.records import make_durable
from veritydb.errors import (
    ConfigurationError,
    ConflictError,
    KeyMissing,
    LogMismatch,
    NotEncrypted,
)
from veritydb.events import Genesis
from veritydb.log import Log, Place
from veritydb.log.files import UnsyncedFiles
from veritydb.records import Reader, Writer
from veritydb.sealing import Opener, Sealer
from veritydb.streams import SHARED_FILE, appearing
from veritydb.version import SOFTWARE

_GENESIS = Genesis(encoding="UTF-8", page_size=4096, auto_vacuum=0, software=SOFTWARE)


class SharedStream:
    """One stream of one cluster."""

    def __init__(self, client: Sequencer, name: str, stream: bytes) -> None:
        self.client = client
        self.name = name
        self.stream = stream

    def open(self, folder: Path, *, read_only: bool, start: Place | None, floor: int) -> GroupLog:
        """Open the copy in ``folder``, which :meth:`check` has let pass."""
        log = GroupLog.open(folder, read_only=read_only, start=start, floor=floor)
        assert isinstance(log, GroupLog)
        log.join(self.client)
        return log

    def check(self, folder: Path) -> None:
        """Raise LogMismatch unless the log in ``folder`` is a copy of this stream."""
        told = shared_with(folder)
        if told is None:
            raise LogMismatch(
                f"{folder} is a log of this machine alone, and stream {self.name!r} is asked for. Connect without "
                "cluster=… to use it; to share what it holds, export it and load that into a stream. Nothing was "
                "touched"
            )
        if told != (self.client.cluster.hex(), self.stream.hex()):
            raise LogMismatch(
                f"{folder} is a copy of stream {told[1]} of cluster {told[0]}, and {self.name!r} "
                f"({self.stream.hex()} of cluster {self.client.cluster.hex()}) is asked for; nothing was touched"
            )

    def create(self, folder: Path, secret: keys.Secret | None, timeout: float) -> None:
        """Make the copy: it appears whole or not at all, and whoever comes second uses the first one's.

        Raises GroupUnavailable, KeyMissing, NotEncrypted, WrongKey, LogUnavailable, ConfigurationError if the stream
        was dropped.
        """
        end = self._there(timeout)
        with appearing(folder) as workshop:
            Log.create(workshop, self.stream).close()
            self._copy(workshop, secret, end, timeout)
            told = {"cluster": self.client.cluster.hex(), "stream": self.stream.hex(), "name": self.name}
            write_new(workshop / SHARED_FILE, json.dumps(told).encode() + b"\n")

    def _there(self, timeout: float) -> tuple[int, bytes]:
        """Return where the stream ends; make it if it is not there."""
        end = self.client.end(self.stream, timeout=timeout)
        if end is not None:
            return end
        self.client.create(self.stream, self.name, timeout=timeout)
        return 0, ZERO_HASH

    def _copy(self, workshop: Path, secret: keys.Secret | None, end: tuple[int, bytes], timeout: float) -> None:
        log = GroupLog.open(workshop, files=UnsyncedFiles())
        assert isinstance(log, GroupLog)
        with contextlib.closing(log):
            log.join(self.client)
            log.acquire(timeout)
            log.aim(*end)
            deadline = time.monotonic() + timeout
            while True:
                log.follow(max(timeout, 5.0))
                try:
                    self._begin(log, workshop, secret)
                    break
                except ConflictError:
                    # Another machine begins the same stream.
                    (workshop / keys.KEY_FILE).unlink(missing_ok=True)
                    if time.monotonic() > deadline:
                        raise
            make_durable(log)

    def _begin(self, log: GroupLog, workshop: Path, secret: keys.Secret | None) -> None:
        """See that there are keys and a genesis; write them if this is the first copy of all."""
        kept = _key_file(log)
        if kept is not None:
            if secret is None:
                raise KeyMissing(f"stream {self.name!r} is encrypted and no key was given; pass key=…")
            path = workshop / keys.KEY_FILE
            path.write_bytes(kept)
            path.chmod(0o600)
            keyring = keys.load_keys(workshop, secret)
        elif secret is not None:
            if log.head.hash != ZERO_HASH:
                raise NotEncrypted(f"stream {self.name!r} is not encrypted, but a key was given; nothing was touched")
            keyring = keys.create_keys(workshop, self.stream, secret)
            _append_keys(log, (workshop / keys.KEY_FILE).read_bytes())
        else:
            keyring = None
        if Reader(log, Opener(keyring)).genesis() is None:
            if log.head.next_offset:
                raise LogMismatch(f"stream {self.name!r} does not begin as one of VerityDB's; nothing was touched")
            Writer(log, Sealer(keyring.current if keyring is not None else None)).note([_GENESIS])


def shared_with(folder: Path) -> tuple[str, str] | None:
    """Return (cluster, stream) in hex if the log in ``folder`` is a copy of a shared stream; None if it is not."""
    try:
        told: Any = json.loads((folder / SHARED_FILE).read_text(encoding="utf-8"))
        return str(told["cluster"]), str(told["stream"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder / SHARED_FILE} cannot be read: {error!r}; nothing was touched") from error


def _key_file(log: Log) -> bytes | None:
    """Return the key file that the stream carries, the last one if there are several."""
    kept: bytes | None = None
    for record in log.records(0):
        if record.header.transaction_count:
            break
        if record.header.kind is Kind.KEYS:
            kept = record.tail
    return kept


def _append_keys(log: GroupLog, content: bytes) -> None:
    head = log.head
    now = max(time.time_ns() // 1000, head.timestamp)
    header = pack_header(
        log.stream, head.next_offset, now, head.hash, os.urandom(16), 0, bytes(32), bytes(12), bytes(32), 0,
        len(content), 0, head.generation, 0, Kind.KEYS,
    )  # fmt: skip
    log.append(header, content, None, 0, now)
