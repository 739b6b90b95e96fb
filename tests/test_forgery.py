"""Who can write every file of a sealed database, and knows the format, and has no key, cannot make ``verify`` say yes.

The forger here is thorough: he makes the chain anew from the record that he touched on, so that each hash is right
again. What he cannot make is a seal, which binds a record's content to its place; and what he takes away from the end
is missed by the file, or by whoever has noted a hash elsewhere (docs/concepts/the-chain.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import veritydb
from tests.crash.small import make_small
from tests.support.life import RAW
from veritydb.log import Log, pack_header
from veritydb.log.spill import Spill
from veritydb.replay.rebuilding import rebuild
from veritydb.verify import verify


class Forged(NamedTuple):
    """A record as its forger has it."""

    header: dict[str, Any]
    tail: bytes
    parts: list[tuple[bytes, bytes]]


Forgery = Callable[[list[Forged]], None]


def _bit(data: bytes, at: int = -20) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _header(number: int, **changes: Any) -> Forgery:
    def forge(records: list[Forged]) -> None:
        records[number].header.update(changes)

    return forge


def _swap_contents(records: list[Forged]) -> None:
    one, two = records[4], records[5]
    records[4], records[5] = one._replace(tail=two.tail), two._replace(tail=one.tail)


def _swap_whole(records: list[Forged]) -> None:
    records[4], records[5] = records[5], records[4]


def _swap_parts(records: list[Forged]) -> None:
    large = next(record for record in records if record.parts)
    large.parts.reverse()


def _part_of_another(records: list[Forged]) -> None:
    one, two = (record for record in records if record.parts)
    one.parts[0] = two.parts[0]


def _changed_part(records: list[Forged]) -> None:
    large = next(record for record in records if record.parts)
    nonce, sealed = large.parts[0]
    large.parts[0] = nonce, _bit(sealed)


def _in_clear(records: list[Forged]) -> None:
    """A record of a database without a key, put in where one was."""
    other = veritydb.connect(":memory:", isolation_level=None)
    other.execute("CREATE TABLE t(a)")
    assert other._session is not None
    stored = list(other._session.stream.log.records(0))[-1]
    other.close()
    records[4].header.update(key_id=0, salt=bytes(32), nonce=bytes(12))
    records[4] = records[4]._replace(tail=stored.tail)


def _insert_again(records: list[Forged]) -> None:
    records.insert(6, records[5])


FORGERIES: dict[str, Forgery] = {
    "a bit of what is sealed": lambda records: records.__setitem__(4, records[4]._replace(tail=_bit(records[4].tail))),
    "a record taken out": lambda records: records.pop(4) and None,
    "the first transaction taken out": lambda records: records.pop(1) and None,
    "a record put in twice": _insert_again,
    "two records in another order": _swap_whole,
    "two records with each other's content": _swap_contents,
    "another time": _header(5, timestamp=1),
    "another identity": _header(5, id=bytes(16)),
    "another kind": _header(5, kind=2, transaction_count=0),
    "another generation": _header(5, generation=7),
    "another nonce": _header(5, nonce=bytes(12)),
    "another salt": _header(5, salt=bytes(32)),
    "no key": _in_clear,
    "parts in another order": _swap_parts,
    "a part of another transaction": _part_of_another,
    "a bit of a part": _changed_part,
    "parts left out": lambda records: [record.parts.clear() for record in records] and None,
    "the last record taken away": lambda records: records.pop() and None,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed database with records of every form, some in several parts."""
    path = tmp_path_factory.mktemp("forgery") / "original.db"
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        _write(path)
    return path


def _write(path: Path) -> None:
    db = veritydb.connect(path, key=RAW, isolation_level=None, actor="dr.lee")
    db.execute("CREATE TABLE t(a, b)")
    for number in range(8):
        db.execute("INSERT INTO t VALUES (?, ?)", (number, "text"))
    for _ in range(2):
        with db:
            db.execute("BEGIN")
            db.executemany("INSERT INTO t VALUES (?, ?)", [(number, "x" * 100) for number in range(30)])
    db.execute("INSERT INTO t VALUES (?, ?)", (9, "last"))
    db.close()


def forged(original: Path, path: Path, forge: Forgery) -> None:
    """Copy the database; its log is written anew with what ``forge`` made of the records."""
    shutil.copy(original, path)
    source, target = Path(f"{original}-log"), Path(f"{path}-log")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.seg", "*.idx"))
    records: list[Forged] = []
    log = Log.open(source, read_only=True)
    for record in log.records(0):
        header = record.header._asdict()
        del header["version"]
        records.append(Forged(header, record.tail, list(record.parts())))
    stream = log.stream
    log.close()
    forge(records)
    log = Log.create(target, stream)
    log.acquire()
    for header, tail, parts in records:
        spill = Spill(target)
        for nonce, sealed in parts:
            spill.add(nonce, sealed)
        head = log.head
        header |= {
            "first_offset": head.next_offset,
            "prev_hash": head.hash,
            "timestamp": max(header["timestamp"], head.timestamp),
            "generation": max(header["generation"], head.generation),
            "parts_digest": spill.digest if parts else bytes(32),
            "parts_length": spill.length if parts else 0,
            "part_count": len(parts),
            "tail_length": len(tail),
        }
        log.append(
            pack_header(**header), tail, spill if parts else None, header["transaction_count"], header["timestamp"]
        )
        spill.close()
    log.close()


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forgery_with_right_hashes_is_found_with_the_key(original: Path, tmp_path: Path, how: str) -> None:
    path = tmp_path / "forged.db"
    forged(original, path, FORGERIES[how])
    assert verify(path, chain_only=True).ok, "the forger was not thorough"
    found = verify(path, key=RAW)
    assert not found.ok, "nothing was found"
    head = verify(original, chain_only=True).chain.head
    assert not verify(path, chain_only=True, expect=head).ok
    if how != "the last record taken away":
        # Not only because the file holds a hash of the log: the log by itself cannot be replayed.
        with pytest.raises(veritydb.LogDamaged):
            rebuild(path, tmp_path / "rebuilt.db", key=RAW)
        assert not (tmp_path / "rebuilt.db").exists()


def test_a_log_that_is_written_anew_as_it_was_is_good(original: Path, tmp_path: Path) -> None:
    """So that what the other tests find is what was forged."""
    path = tmp_path / "same.db"
    forged(original, path, lambda records: None)
    assert verify(path, key=RAW).ok
    assert verify(path, chain_only=True).chain.head == verify(original, chain_only=True).chain.head
