"""Random programs over several connections, beside a plain SQLite twin, checked at every commit.

The machine drives VerityDB and plain SQLite with the same statements. After each step both must have shown the same:
rows, errors, ``changes()``, ``total_changes()``, ``last_insert_rowid()``, whether a transaction is open. Whenever a
transaction was logged, three more things must agree: the two files; a follower that has only ever applied the log; and
the net effect that SQLite's session extension recorded of the twin.

Transactions of several connections are open at once, so that one meets the lock of another (SQLITE_BUSY), or has read
what another has changed since (SQLITE_BUSY_SNAPSHOT); and a reader may be in the middle of a query all the while.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import veritydb
from tests.support import files, net
from tests.support.content import content, different
from tests.support.life import RAW, Life
from tests.support.places import in_memory
from tests.support.sides import Ours, Outcome, Plain, Step, assert_alike
from tests.support.strategies import COMPARED_WITH_SESSION, SCHEMA, statements
from veritydb.records import Reader
from veritydb.replay.applier import Applier
from veritydb.sealing import Opener

if TYPE_CHECKING:
    from tests.conftest import Count

_LEVELS: tuple[str | None, ...] = (None, None, "", "IMMEDIATE")
"""The isolation levels of the connections that write."""
_LOOK = "SELECT count(*) FROM sqlite_schema"
_numbers = st.integers(0, len(_LEVELS) - 1)
_names = st.sampled_from(("a", "b"))
_queries = st.sampled_from(
    (
        "SELECT rowid, a, b FROM bag ORDER BY rowid",
        "SELECT id, k, n FROM keyed ORDER BY k",
        "SELECT b, a, c FROM composed",
        "SELECT id, a, hex(g), s FROM computed",
        "SELECT what, x FROM log",
        "SELECT a FROM shape UNION ALL SELECT code FROM parent",
    )
)


class Machine(RuleBasedStateMachine):
    """Connections that write, bare and with implicit transactions, and one that reads; a twin of each elsewhere."""

    key: ClassVar[bytes | None] = None
    met: ClassVar[Counter[int]] = Counter()
    """Errors, by code, and transactions that were compared (0)."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-", dir=in_memory()))
        self.path = self.folder / "life.db"
        self.life = Life(self.folder)
        self.ours: list[Ours] = []
        self.plain: list[Plain] = []
        self.readers: list[Any] = []
        """Of each side: a connection."""
        self.reading: list[Any] = []
        """Of each side: rows that are still to come of a query that has begun."""
        self.sessions: list[apsw.Session] = []
        self.follower = apsw.Connection(":memory:")
        self.applied = 0
        self.keys: dict[str, tuple[int, ...]] = {}

    @initialize()
    def open(self) -> None:
        """Open everything, and make the schema."""
        for number in range(len(_LEVELS)):
            self.connect(number)
            if number == 0:
                for statement in ("BEGIN", *SCHEMA, "COMMIT"):
                    self.step(number, statement)
                self.keys = net.key_columns(self.plain[0].db, COMPARED_WITH_SESSION)
        self.readers = [self.life.connect(key=self.key, timeout=0), apsw.Connection(str(self.folder / "plain.db"))]

    def connect(self, number: int) -> None:
        """Open connection ``number`` on both sides, at the end of the list or in the place of one that was closed."""
        level = _LEVELS[number]
        ours = Ours(self.life.connect(key=self.key, isolation_level=level, timeout=0))
        plain = Plain(str(self.folder / "plain.db"), implicit=None if level is None else f"BEGIN {level}")
        self.ours[number:] = [ours, *self.ours[number + 1 :]]
        self.plain[number:] = [plain, *self.plain[number + 1 :]]
        self.sessions[number:] = [self.session(plain), *self.sessions[number + 1 :]]
        self.step(number, "PRAGMA foreign_keys = ON")

    def teardown(self) -> None:
        """Close everything; then the whole log must replay to the file."""
        for session in self.sessions:
            session.close()
        for plain in self.plain:
            plain.close()
        if self.readers:
            self.readers[1].close(True)
        self.follower.close(True)
        self.life.__exit__()
        shutil.rmtree(self.folder)

    @rule(number=_numbers, statement=statements)
    def run(self, number: int, statement: Step) -> None:
        """Run any statement on any connection."""
        self.step(number, statement)

    @rule(number=_numbers, again=st.lists(statements, min_size=2, max_size=5))
    def run_several(self, number: int, again: list[Step]) -> None:
        """Run some statements on one connection."""
        for statement in again:
            self.step(number, statement)

    @rule(number=_numbers, how=st.sampled_from(("", "", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")))
    def begin(self, number: int, how: str) -> None:
        """Begin a transaction."""
        self.step(number, f"BEGIN {how}")

    @rule(number=_numbers, query=_queries)
    def take_snapshot(self, number: int, query: str) -> None:
        """Read something, in a transaction that has not written: it keeps what it has seen."""
        if not self.plain[number].db.in_transaction:
            self.step(number, "BEGIN")
        self.step(number, query)

    @rule(query=_queries)
    def begin_to_read(self, query: str) -> None:
        """Begin to read the result of a query, and leave it at that."""
        ours, plain = self.readers
        seen, rows = ours.execute(query), plain.cursor().execute(query)
        # A cursor of sqlite3 is one row ahead, and lets go of its snapshot when the row it has is the last one.
        expected = chain(list(islice(rows, 2)), rows)
        self.reading = [seen, expected]
        assert repr(seen.fetchone()) == repr(next(expected, None)), query

    @rule()
    def read_on(self) -> None:
        """Read the rest: it is what was there when the query began, whatever has been committed since."""
        if self.reading:
            seen, expected = self.reading
            assert repr(seen.fetchall()) == repr(list(expected))
            self.reading = []

    @rule(number=_numbers)
    def open_again(self, number: int) -> None:
        """Close a connection, with whatever is open on it, and open another, also while others write."""
        self.sessions[number].close()
        self.plain[number].close()
        self.ours[number].close()
        self.connect(number)

    @rule(first=_numbers)
    def end_all(self, first: int) -> None:
        """End all transactions, so that everybody can write again."""
        for number in range(len(_LEVELS)):
            self.end_other((first + number) % len(_LEVELS))

    @rule(
        numbers=st.permutations(range(len(_LEVELS))), statement=statements, how=st.sampled_from(("COMMIT", "ROLLBACK"))
    )
    def collide(self, numbers: list[int], statement: Step, how: str) -> None:
        """One writes; another, which has read before, cannot; a third can once the first has ended."""
        one, two, three, _ = numbers
        self.end_all(one)
        self.take_snapshot(two, "SELECT count(*) FROM bag")
        self.step(one, "BEGIN IMMEDIATE")
        self.step(one, ("INSERT INTO bag VALUES (?, 'collided')", (one,)))
        self.step(three, statement)
        self.step(one, how)
        self.step(two, statement)
        self.step(two, "DELETE FROM bag WHERE a IS 13")
        self.step(three, statement)

    @rule(number=_numbers, name=_names, what=st.sampled_from(("SAVEPOINT", "SAVEPOINT", "ROLLBACK TO", "RELEASE")))
    def savepoint(self, number: int, name: str, what: str) -> None:
        """Make, undo or release a savepoint; often there is none."""
        self.step(number, f"{what} {name}")

    @rule(number=_numbers, how=st.sampled_from(("COMMIT", "COMMIT", "COMMIT", "END", "ROLLBACK")))
    def end(self, number: int, how: str) -> None:
        """End the transaction, if there is one."""
        self.step(number, how)

    @rule(number=_numbers, how=st.sampled_from(("commit", "rollback")))
    def end_by_method(self, number: int, how: str) -> None:
        """End the transaction as PEP 249 does, which is no error if there is none."""
        if not self.plain[number].db.in_transaction:
            return
        expected = self.plain[number].run(how)
        failure = ""
        try:
            getattr(self.ours[number].connection, how)()
        except veritydb.Error as error:
            failure = str(error)
        assert failure == (expected.failure.message if expected.failure else ""), f"connection {number}: {how}()"
        self.after(number)

    def step(self, number: int, step: Step) -> Outcome:
        """Run one step on both sides, and compare."""
        plain, ours = self.plain[number], self.ours[number]
        if not plain.db.in_transaction:
            # SQLite itself does not look, before ALTER TABLE, whether another connection has changed the schema.
            plain.run(_LOOK)
            ours.run(_LOOK)
        if any(other.db.in_transaction for other in self.plain if other is not plain):
            # A statement that is known meets the lock first, and a new one its own mistake, in sqlite3 as here; the
            # twin knows none.
            assert ours.connection._session is not None
            ours.connection._session.planner.forget()
        expected, seen = plain.run(step), ours.run(step)
        if seen.failure and seen.failure.message.startswith("no such") and not expected.in_transaction:
            # One that was prepared while the table was there has begun a transaction, as sqlite3 would have.
            ours.connection.rollback()
            seen = seen._replace(in_transaction=False)
        assert_alike(seen, expected, f"connection {number}: {step!r}")
        if expected.failure is not None:
            self.met[expected.failure.code] += 1
        self.after(number)
        return expected

    def end_other(self, number: int) -> None:
        """Commit, or roll back what cannot be committed."""
        for how in ("COMMIT", "ROLLBACK"):
            if self.plain[number].db.in_transaction:
                expected, seen = self.plain[number].run(how), self.ours[number].run(how)
                assert_alike(seen, expected, f"connection {number}: {how}")
                self.after(number)

    def after(self, number: int) -> None:
        """Once no transaction is open on this connection: compare what was committed, if anything was."""
        if self.plain[number].db.in_transaction:
            return
        new = self.follow()
        changeset = self.changeset(number)
        if new is None:
            return
        self.met[0] += 1
        with files.opened(self.path, self.key) as db:
            life = content(db)
        twin = apsw.Connection(str(self.folder / "plain.db"))
        try:
            assert not different(life, content(twin)), "the file differs from SQLite's"
        finally:
            twin.close()
        assert not different(life, content(self.follower)), "the log differs from the file"
        if changeset is not None:
            try:
                logged = net.of_events(new, self.keys)
                recorded = net.of_changeset(changeset, COMPARED_WITH_SESSION)
            except (net.Unknown, UnicodeDecodeError):  # APSW shows no text of a changeset that is not valid.
                return
            assert repr(sorted(logged.items())) == repr(sorted(recorded.items())), "the log differs from the session"

    def follow(self) -> list[Any] | None:
        """Apply what is new in the log to the follower; returns its events, or None if nothing is new."""
        if not (self.folder / "life.db-log").is_dir():
            return None
        new: list[Any] | None = None
        with files.opened_log(self.path) as log:
            if log.head.next_offset == self.applied:
                return None
            reader = Reader(log, Opener(files.keyring(self.path, self.key)))
            if self.applied == 0:
                genesis = reader.genesis()
                assert genesis is not None
                with Applier(self.follower) as applier:
                    applier.apply(genesis)
                    applier.finish()
            for transaction in reader.transactions(self.applied):
                events = list(transaction.events)
                self.follower.execute("BEGIN")
                with Applier(self.follower) as applier:
                    for event in events:
                        applier.apply(event)
                    applier.finish()
                self.follower.execute("COMMIT")
                self.applied = transaction.offset + 1
                new = [*(new or []), *events]
        return new

    @staticmethod
    def session(plain: Plain) -> apsw.Session:
        """Record what changes through ``plain`` from now on."""
        session = apsw.Session(plain.db, "main")
        session.attach()
        return session

    def changeset(self, number: int) -> bytes | None:
        """Return what was recorded since the last call; None if the schema changed meanwhile."""
        try:
            return bytes(self.sessions[number].changeset())
        except apsw.SchemaChangeError:
            return None
        finally:
            self.sessions[number].close()
            self.sessions[number] = self.session(self.plain[number])


class EncryptedMachine(Machine):
    """The same with a key."""

    key = RAW


@pytest.mark.parametrize(("machine", "share"), [(Machine, 1.0), (EncryptedMachine, 0.3)], ids=["plain", "encrypted"])
def test_random_programs_do_what_they_do_in_sqlite(
    machine: type[Machine], share: float, campaign: bool, count_of: Count
) -> None:
    count = int((2_000 if campaign else 40) * share)
    Machine.met.clear()
    run_state_machine_as_test(machine, settings=settings(max_examples=count, report_multiple_bugs=False))
    met = Machine.met
    count_of("random programs", count)
    count_of("transactions compared with SQLite's, with its session, and with the log replayed", met[0])
    count_of("SQLITE_BUSY met alike", met[apsw.SQLITE_BUSY])
    count_of("SQLITE_BUSY_SNAPSHOT met alike", met[apsw.SQLITE_BUSY_SNAPSHOT])
    assert met[apsw.SQLITE_BUSY] > count
    assert met[apsw.SQLITE_BUSY_SNAPSHOT] > count / 8
    assert met[0] > count


def test_the_machine_is_about_this_sqlite() -> None:
    """Both sides run in one library, so that a difference is never one of versions."""
    assert veritydb.sqlite_version == apsw.sqlite_lib_version()
