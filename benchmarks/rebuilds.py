"""Rebuilding a file from its log, against inserting the same rows through bare APSW with SQLCipher."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import veritydb
from benchmarks.bulk import DDL, INSERT, ROWS, bare_connection, rows
from benchmarks.measuring import KEY, Measured, turns
from veritydb.replay import rebuild


def measure(folder: Path, rounds: int) -> list[Measured]:
    data = rows()
    numbers = count()
    source = str(folder / "source.db")
    connection = veritydb.connect(source, key=KEY)
    connection.execute(DDL)
    connection.executemany(INSERT, data)
    connection.commit()
    connection.close()

    def ours() -> None:
        rebuild(source, folder / f"rebuilt{next(numbers)}.db", key=KEY)

    def bare() -> None:
        peer = bare_connection(folder / f"bare-rebuild{next(numbers)}.db")
        peer.execute(DDL)
        with peer:
            peer.executemany(INSERT, data)
        peer.close()

    mine, theirs, ratio = turns(rounds, ours, bare)
    return [
        Measured(
            name="rebuild", ours=f"{ROWS / mine:,.0f} rows/s", peer=f"APSW+SQLCipher {ROWS / theirs:,.0f}",
            value=ratio, floor=0.5,
        )
    ]  # fmt: skip
