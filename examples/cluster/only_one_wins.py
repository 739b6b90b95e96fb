"""Three applications on three machines, and things of which there must be exactly one.

A note is signed off once, a drug is dispensed once, a visit is billed once: whoever asks first, wherever, wins, and all
others learn who that was. Nothing but an ordinary transaction is needed. It reads what it depends on and writes; the
cluster takes it only if nobody has written since, and otherwise raises ConflictError once the file has caught up. So
the second try sees what the first one of another machine has done.

    veritydb cluster init ward && veritydb cluster start ward
    python examples/cluster/only_one_wins.py ward/client
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import veritydb


def once(db: veritydb.Connection, work: Callable[[], bool], tries: int = 50) -> bool:
    """Do ``work`` in a transaction; again if another machine was first."""
    for _ in range(tries):
        try:
            with db:
                db.execute("BEGIN IMMEDIATE")
                return work()
        except (veritydb.ConflictError, veritydb.StaleSnapshot):
            continue
    raise veritydb.OperationalError(f"others were first {tries} times")


def sign_off(db: veritydb.Connection, note: int, doctor: str) -> bool:
    """Sign a note, unless somebody has."""

    def work() -> bool:
        done = db.execute("UPDATE notes SET signed_by = ? WHERE id = ? AND signed_by IS NULL", (doctor, note))
        return bool(done.rowcount)

    return once(db, work)


def dispense(db: veritydb.Connection, drug: str, patient: int) -> bool:
    """Take one package out of the stock, unless it is empty."""

    def work() -> bool:
        (left,) = db.execute("SELECT packages FROM stock WHERE drug = ?", (drug,)).fetchone()
        if not left:
            return False
        db.execute("UPDATE stock SET packages = packages - 1 WHERE drug = ?", (drug,))
        db.execute("INSERT INTO dispensed (drug, patient) VALUES (?, ?)", (drug, patient))
        return True

    return once(db, work)


def bill(db: veritydb.Connection, visit: int, cents: int) -> bool:
    """Bill a visit, unless it has been."""

    def work() -> bool:
        try:
            db.execute("INSERT INTO invoices (visit, cents) VALUES (?, ?)", (visit, cents))
        except veritydb.IntegrityError:
            return False
        return True

    return once(db, work)


SCHEMA = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, signed_by TEXT);
CREATE TABLE stock (drug TEXT PRIMARY KEY, packages INTEGER CHECK (packages >= 0));
CREATE TABLE dispensed (id INTEGER PRIMARY KEY, drug TEXT, patient INTEGER);
CREATE TABLE invoices (visit INTEGER PRIMARY KEY, cents INTEGER);
INSERT INTO notes (id, text) VALUES (1, 'discharged');
INSERT INTO stock VALUES ('morphine', 1);
"""


def main(cluster: str, stream: str = "ward", key: str = "correct horse") -> dict[str, list[str]]:
    """Let three applications try everything at the same time; return who won what."""
    winners: dict[str, list[str]] = {"sign-off": [], "dispensing": [], "billing": []}
    with tempfile.TemporaryDirectory() as folder:
        names = ("ward", "pharmacy", "office")
        for name in names:
            (Path(folder) / name).mkdir()

        def connect(name: str) -> veritydb.Connection:
            path = Path(folder) / name / "clinic.db"
            return veritydb.connect(path, key=key, cluster=cluster, stream=stream, actor=name, timeout=30)

        first = connect(names[0])
        first.executescript(SCHEMA)
        first.close()
        start = threading.Barrier(len(names))

        def application(name: str) -> None:
            db = connect(name)
            with db.read("synchronized"):
                pass  # The schema is here.
            start.wait()
            for what, won in (
                ("sign-off", sign_off(db, 1, f"dr. {name}")),
                ("dispensing", dispense(db, "morphine", 7)),
                ("billing", bill(db, 12, 9900)),
            ):
                if won:
                    winners[what].append(name)
            db.close()

        threads = [threading.Thread(target=application, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        last = connect(names[0])
        with last.read("synchronized"):
            print("signed by", *last.execute("SELECT signed_by FROM notes").fetchone())
            print("packages left", *last.execute("SELECT packages FROM stock").fetchone())
            print("invoices", *last.execute("SELECT count(*) FROM invoices").fetchone())
        last.close()
        from veritydb import follower

        follower.stop_all()  # Before the folder goes away.
    for what, who in winners.items():
        print(f"{what:10} {', '.join(who)}")
    return winners


if __name__ == "__main__":
    main(sys.argv[1])
