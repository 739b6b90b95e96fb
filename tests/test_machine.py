"""Random programs over several connections, beside a plain SQLite twin, checked at every commit.

The machine drives VerityDB and plain SQLite with the same statements. After each step both must have shown the same:
rows, errors, ``changes()``, ``total_changes()``, ``last_insert_rowid()``, whether a transaction is open. Whenever a
transaction was logged, three more things must agree: the two files; a follower that has only ever applied the log; and
the net effect that SQLite's session extension recorded of the twin.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

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

_CONNECTIONS = 3
_LOOK = "SELECT count(*) FROM sqlite_schema"
_numbers = st.integers(0, _CONNECTIONS - 1)
_names = st.sampled_from(("a", "b"))


class Machine(RuleBasedStateMachine):
    """Two bare connections and one with implicit transactions, on one file; a twin of each on another file."""

    key: ClassVar[bytes | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-", dir=in_memory()))
        self.path = self.folder / "life.db"
        self.life = Life(self.folder)
        self.ours: list[Ours] = []
        self.plain: list[Plain] = []
        self.sessions: list[apsw.Session] = []
        self.follower = apsw.Connection(":memory:")
        self.applied = 0
        self.keys: dict[str, tuple[int, ...]] = {}

    @initialize()
    def open(self) -> None:
        """Open everything, and make the schema."""
        for number in range(_CONNECTIONS):
            implicit = number == 2
            connection = self.life.connect(key=self.key, isolation_level="" if implicit else None, timeout=0)
            plain = Plain(str(self.folder / "plain.db"), implicit=implicit)
            self.ours.append(Ours(connection))
            self.plain.append(plain)
            self.sessions.append(self.session(plain))
            self.step(number, "PRAGMA foreign_keys = ON")
            if number == 0:
                for statement in ("BEGIN", *SCHEMA, "COMMIT"):
                    self.step(number, statement)
                self.keys = net.key_columns(plain.db, COMPARED_WITH_SESSION)

    def teardown(self) -> None:
        """Close everything; then the whole log must replay to the file."""
        for session in self.sessions:
            session.close()
        for plain in self.plain:
            plain.close()
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

    @rule(number=_numbers, how=st.sampled_from(("BEGIN", "BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE")))
    def begin(self, number: int, how: str) -> None:
        """Begin a transaction."""
        self.step(number, how)

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
        """Run one step on both sides, and compare. Other transactions end first: who waits for whom is another test."""
        if not str(step).startswith("SELECT"):
            for other in range(len(self.plain)):
                if other != number:
                    self.end_other(other)
        plain, ours = self.plain[number], self.ours[number]
        if not plain.db.in_transaction:
            # SQLite itself does not look, before ALTER TABLE, whether another connection has changed the schema.
            plain.run(_LOOK)
            ours.run(_LOOK)
        expected, seen = plain.run(step), ours.run(step)
        if seen.failure and seen.failure.message.startswith("no such") and not expected.in_transaction:
            # One that was prepared while the table was there has begun a transaction, as sqlite3 would have.
            ours.connection.rollback()
            seen = seen._replace(in_transaction=False)
        assert_alike(seen, expected, f"connection {number}: {step!r}")
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
def test_random_programs_do_what_they_do_in_sqlite(machine: type[Machine], share: float, campaign: bool) -> None:
    count = int((2_000 if campaign else 40) * share)
    run_state_machine_as_test(machine, settings=settings(max_examples=count, report_multiple_bugs=False))


def test_the_machine_is_about_this_sqlite() -> None:
    """Both sides run in one library, so that a difference is never one of versions."""
    assert veritydb.sqlite_version == apsw.sqlite_lib_version()
