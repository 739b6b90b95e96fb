"""A client process: transactions over ``veritydb.connect(cluster=…)``, one after the other, and what became of each.

``python -m tests.chaos.clients FILE CLUSTER STREAM CLIENT SEED SECONDS HISTORY`` on a machine (a folder) of its own.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time

import veritydb

KEYS = ("list 0", "list 1", "list 2", "register 0", "register 1", "set")
ACCOUNTS = 6
BALANCE = 100
QUIET = 5.0
"""Seconds at the end in which nothing breaks;"""
PATIENCE = 60.0
"""and so many more for who has got nothing done by then: a machine may have much else to do."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS lists (id INTEGER PRIMARY KEY, key INTEGER, value INTEGER UNIQUE);
CREATE TABLE IF NOT EXISTS registers (key INTEGER PRIMARY KEY, value INTEGER);
CREATE TABLE IF NOT EXISTS members (value INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance INTEGER CHECK (balance >= 0));
"""


_LOOK = {
    "list": "SELECT value FROM lists WHERE key = ? ORDER BY id",
    "register": "SELECT value FROM registers WHERE key = ?",
    "set": "SELECT value FROM members WHERE ? = 0 ORDER BY value",
}
_WRITE = {
    "list": "INSERT INTO lists (key, value) VALUES (?, ?)",
    "register": "INSERT INTO registers VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    "set": "INSERT INTO members SELECT ?2 WHERE ?1 = 0",
}


def look(db, key):
    """Return what a list, a register or the set holds."""
    kind, _, number = key.partition(" ")
    return tuple(value for (value,) in db.execute(_LOOK[kind], (int(number or 0),)))


def transfer(db, chance):
    """Move money: the sum stays, whoever else moves some."""
    source, target = chance.sample(range(ACCOUNTS), 2)
    amount = chance.randint(1, 20)
    (left,) = db.execute("SELECT balance FROM accounts WHERE id = ?", (source,)).fetchone()
    if left >= amount:
        db.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", (amount, source))
        db.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", (amount, target))


def write(db, chance, values):
    """Read one or two of them, and write to them."""
    read, appended = {}, []
    db.execute("BEGIN IMMEDIATE")
    for key in chance.sample(KEYS, chance.randint(1, 2)):
        read[key] = look(db, key)
        value = next(values)
        kind, _, number = key.partition(" ")
        db.execute(_WRITE[kind], (int(number or 0), value))
        appended.append((key, value))
    if chance.random() < 0.5:
        transfer(db, chance)
    return read, appended


def main(path, cluster, stream, client, seed, seconds, history):
    chance = random.Random(int(seed) * 100 + int(client))
    values = iter(range(int(client) * 1_000_000 + 1, (int(client) + 1) * 1_000_000))
    mended = time.time() + float(seconds) + 3.0
    end = mended + QUIET
    got_on = False
    connect = {"key": "chaos", "cluster": cluster, "stream": stream, "timeout": 3.0, "actor": f"client {client}"}
    db = None
    with open(history, "a", buffering=1) as out:
        while time.time() < end or (not got_on and time.time() < end + PATIENCE):
            began, outcome, read, appended, offset = time.time(), "rolled back", {}, [], None
            try:
                if db is None:
                    db = veritydb.connect(path, isolation_level=None, **connect)
                began = time.time()
                if chance.random() < 0.3:
                    with db.read("synchronized"):
                        read = {key: look(db, key) for key in KEYS}
                        (total,) = db.execute("SELECT sum(balance) FROM accounts").fetchone()
                        assert total == ACCOUNTS * BALANCE, total
                    outcome = "read"
                else:
                    read, appended = write(db, chance, values)
                    try:
                        db.execute("COMMIT")
                        outcome, offset = "committed", db.last_offset
                        got_on |= began > mended
                    except veritydb.OutcomeUnknown:
                        outcome = "unknown"
            except veritydb.OperationalError as error:
                if outcome == "rolled back":
                    read = {}
                if db is not None:
                    with contextlib.suppress(veritydb.Error):
                        db.rollback() if db.in_transaction else None
                    if chance.random() < 0.05 or "failed before" in str(error):
                        db.close()
                        db = None
            out.write(
                json.dumps([int(client), began, time.time(), outcome, list(read.items()), appended, offset]) + "\n"
            )
            time.sleep(chance.uniform(0, 0.02))
    if db is not None:
        db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
