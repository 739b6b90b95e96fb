"""Incremental blobs answer as ``sqlite3.Blob`` does, and what they write is in the log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.support.life import Life
from tests.support.twins import See, same

DATA = bytes(range(100, 120))


def opened(db: Any, see: See, **options: Any) -> tuple[Any, Any]:
    con = see.opened(db.connect(see.folder / "x.db"))
    con.execute("CREATE TABLE t(b BLOB)")
    con.execute("INSERT INTO t VALUES (?)", (DATA,))
    return con, con.blobopen("t", "b", 1, **options)


def test_it_reads_and_writes_like_a_file_of_fixed_length(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con, blob = opened(db, see)
        see([len(blob), blob.read(5), blob.tell(), blob.read(0), blob.read(-1), blob.read(3)])
        for where in ((3,), (3, os.SEEK_SET), (2, os.SEEK_CUR), (-4, os.SEEK_END), (0, 9), (-1,), (21,), (2**31, 0)):
            see(lambda where=where: blob.seek(*where))
            see(blob.tell())
        for wrong in ((2**31 - 1, os.SEEK_CUR), (2**31 - 1, os.SEEK_END)):
            see(lambda wrong=wrong: blob.seek(*wrong))
        blob.seek(2)
        for data in (b"ab", bytearray(b"cd"), memoryview(b"ef"), b"", b"x" * 99, "text", 5, memoryview(b"abcd")[::2]):
            see(lambda data=data: blob.write(data))
            see(blob.tell())
        blob.close()
        con.commit()
        see(con.execute("SELECT b FROM t").fetchall())

    same(tmp_path, program)


def test_it_is_indexed_and_sliced_like_bytes(tmp_path: Path) -> None:
    keys: list[Any] = [0, -1, 5, 20, -21, 2**70, 1.5, "a", slice(2, 5), slice(None), slice(5, 5), slice(-4, None)]
    keys += [slice(0, 10, 3), slice(1, 2, 0), slice(1.5, None)]

    def program(db: Any, see: See) -> None:
        con, blob = opened(db, see)
        for key in keys:
            see(lambda key=key: blob[key])
        for key, value in (
            (0, 7), (-1, 8), (0, 256), (0, -1), (0, 2**70), (0, "a"), (0, b"a"), (20, 1), ("a", 1),
            (slice(2, 4), b"xy"),
            (slice(2, 4), b"x"), (slice(0, 6, 2), b"abc"), (slice(3, 3), b""), (slice(0, 2), bytearray(b"zz")),
            (slice(0, 2), 5), (slice(0, 2, 0), b"ab"),
        ):  # fmt: skip
            see(lambda key=key, value=value: blob.__setitem__(key, value))
        see(lambda: blob.__delitem__(0))
        see(lambda: blob.__delitem__(slice(0, 1)))
        see(lambda: blob + blob)
        see(bool(blob))
        see(con.execute("SELECT b FROM t").fetchall())
        blob.close()

    same(tmp_path, program)


def test_it_cannot_be_iterated_over(tmp_path: Path) -> None:
    con, blob = opened(veritydb, See(tmp_path))
    for use in (lambda: iter(blob), lambda: b"a" in blob, lambda: list(blob)):
        with pytest.raises(TypeError, match="not iterable"):
            use()
    blob.close()
    con.close()


def test_mistakes_and_closing_give_the_same_errors(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con, blob = opened(db, see)
        for arguments, options in (
            (("t", "b", 2), {}),
            (("nowhere", "b", 1), {}),
            (("t", "nothing", 1), {}),
            (("t", "b", 1), {"name": "elsewhere"}),
        ):
            see(lambda arguments=arguments, options=options: con.blobopen(*arguments, **options))
        with con.blobopen("t", "b", 1, readonly=True) as readonly:
            see(lambda: readonly.write(b"x"))
            see(readonly.read(2))
        for use in (readonly.read, readonly.tell, readonly.__enter__, lambda: len(readonly), lambda: readonly[0]):
            see(use)
        see(readonly.close)
        con.execute("UPDATE t SET b = 'text'")
        see(blob.read)
        see(lambda: blob.write(b"x"))
        blob.close()
        con.close()
        see(blob.read)
        see(db.Blob)

    same(tmp_path, program)


def test_what_a_blob_writes_is_replayed(life: Life) -> None:
    con = life.connect()
    con.execute("CREATE TABLE t(b BLOB)")
    con.execute("INSERT INTO t VALUES (zeroblob(1000))")
    con.commit()
    offset = con.last_offset
    assert offset is not None
    with con.blobopen("t", "b", 1) as blob:  # Outside a transaction each write is one of its own.
        blob.write(b"first")
        blob[-1] = 9
    assert con.last_offset == offset + 2
    con.execute("BEGIN")
    with con.blobopen("t", "b", 1) as blob:
        blob[10:20:2] = b"abcde"
        con.rollback()
    con.execute("BEGIN")
    with con.blobopen("t", "b", 1) as blob:
        blob.seek(500)
        blob.write(b"second")
    con.commit()
    assert con.execute("SELECT substr(b, 1, 12), substr(b, 501, 6) FROM t").fetchone() == (
        b"first" + bytes(7),
        b"second",
    )
