"""Bulk inserts: against bare APSW with SQLCipher, and against sqlite3 with JSON audit triggers."""

from __future__ import annotations

import sqlite3
from itertools import count
from pathlib import Path

import apsw

import veritydb
from benchmarks.measuring import KEY, Measured, turns
from veritydb import opening

ROWS = 200_000
DDL = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, born TEXT, dose REAL)"
INSERT = "INSERT INTO t(name, born, dose) VALUES(?, ?, ?)"


def rows(number: int = ROWS) -> list[tuple[str, str, float]]:
    return [(f"name {n}", f"19{n % 100:02}-03-22", n / 7) for n in range(number)]


def measure(folder: Path, rounds: int) -> list[Measured]:
    data = rows()
    numbers = count()

    def ours() -> None:
        connection = veritydb.connect(str(folder / f"ours{next(numbers)}.db"), key=KEY)
        connection.execute(DDL)
        connection.executemany(INSERT, data)
        connection.commit()
        connection.close()

    def bare() -> None:
        connection = bare_connection(folder / f"bare{next(numbers)}.db")
        connection.execute(DDL)
        with connection:
            connection.executemany(INSERT, data)
        connection.close()

    def audited() -> None:
        connection = sqlite3.connect(folder / f"audited{next(numbers)}.db")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            f"{DDL}; CREATE TABLE audit(at TEXT, op TEXT, row TEXT);"
            "CREATE TRIGGER audited AFTER INSERT ON t BEGIN INSERT INTO audit VALUES(datetime('now'), 'insert',"
            "json_object('id', new.id, 'name', new.name, 'born', new.born, 'dose', new.dose)); END;"
        )
        connection.executemany(INSERT, data)
        connection.commit()
        connection.close()

    mine, theirs, ratio = turns(rounds, ours, bare)
    _, others, against_triggers = turns(rounds, ours, audited)
    return [
        Measured(
            name="bulk insert, bare peer", ours=f"{ROWS / mine:,.0f} rows/s",
            peer=f"APSW+SQLCipher {ROWS / theirs:,.0f}", value=ratio, floor=0.30,
        ),
        Measured(
            name="bulk insert, audited peer", ours=f"{ROWS / mine:,.0f} rows/s",
            peer=f"JSON triggers {ROWS / others:,.0f}", value=against_triggers, floor=1.0,
        ),
    ]  # fmt: skip


def bare_connection(path: Path) -> apsw.Connection:
    connection = opening.open_file(str(path), KEY)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 1)
    return connection
