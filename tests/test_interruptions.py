"""Exceptions on their way through SQLite: no callback comes then, and yet no wrong buffer may commit."""

from __future__ import annotations

import _thread
import itertools
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

import apsw
import pytest

from tests.support.captured import NUMBERS, Captured, Make, State, brief
from veritydb.hooks.witness import Head

Watch: TypeAlias = "tuple[Callable[[], Any], Callable[[Any], object]]"
"""Gets the function that watches all others, and installs one."""


def broken(c: Captured, error: BaseException) -> None:
    """Register a function ``fail(value)`` that raises for anything true."""

    def fail(value: Any) -> Any:
        if value:
            raise error
        return value

    c.db.create_scalar_function("fail", fail)
    # SQLite knows that a function may fail, and opens a journal; of an aggregate it does not think so.
    c.db.create_aggregate_function("fail_total", lambda: (None, lambda _, value: fail(value), lambda _: 0))


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("INSERT INTO t VALUES (1, fail(0)), (2, fail(1))", 0),
        ("INSERT OR FAIL INTO t VALUES (1, fail(0)), (2, fail(1))", 0),
        ("INSERT INTO plain SELECT x, fail_total(g = 3) FROM s GROUP BY g", 2),
        ("UPDATE three SET a = fail(a = 3)", 0),
        ("INSERT INTO watched VALUES (1), (2)", 0),
    ],
)
def test_after_a_python_exception_the_buffer_holds_what_the_statement_left(
    make: Make, sql: str, kept: int, error: BaseException
) -> None:
    c = make(
        "CREATE TABLE t(a UNIQUE, b); CREATE TABLE plain(a, b); CREATE TABLE s(g, x); CREATE TABLE three(a);"
        "INSERT INTO s VALUES (1, 1), (2, 1), (3, 1); INSERT INTO three VALUES (0), (0), (3);"
        "CREATE TABLE watched(a); CREATE TRIGGER g AFTER INSERT ON watched BEGIN"
        " INSERT INTO t VALUES (new.a, fail(new.a = 2)); END"
    )
    broken(c, error)
    state = State(c.db)
    c.begin()
    c.do("INSERT INTO t VALUES (100, 0)")
    c.do("SAVEPOINT s")
    total = c.db.execute("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM plain)").get
    with pytest.raises(type(error)):
        c.do(sql)
    assert c.capture.poison is None
    left: Any = c.db.execute("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM plain)").get
    assert left - total == kept
    c.do("INSERT INTO t VALUES (101, 0)")
    assert c.fails("INSERT INTO t VALUES (102, 0), (101, 0)") == "ConstraintError"
    state.apply(c.commit())
    assert not state.different(State(c.db))


def test_an_exception_in_an_inner_statement_that_the_outer_one_survives_takes_back_the_inner_rows(make: Make) -> None:
    c = make("CREATE TABLE log(a UNIQUE); CREATE TABLE t(a UNIQUE)")
    broken(c, ValueError())
    inner = c.db.cursor()

    def attempt(value: Any) -> Any:
        c.db.execute("INSERT INTO log VALUES (?)", (value,)).fetchall()
        mark = c.capture.statement_mark()
        try:
            inner.execute("INSERT INTO log VALUES (fail(0)), (fail(1))")
        except ValueError as error:
            c.capture.unwind(mark, error)
        return value

    c.db.create_scalar_function("attempt", attempt)
    state = State(c.db)
    c.begin()
    c.do("INSERT INTO t SELECT attempt(column1) FROM (VALUES (1), (2))")
    state.apply(c.commit())
    assert not state.different(State(c.db))
    assert c.db.execute("SELECT count(*) FROM log").get == 2


def test_an_exception_that_ends_the_transaction_is_noticed_though_no_callback_came(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    broken(c, apsw.FullError("full"))
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    mark = c.capture.statement_mark()
    with pytest.raises(apsw.FullError) as caught:
        c.cursor.execute("INSERT INTO t VALUES (fail(0)), (fail(1))")
    c.capture.unwind(mark, caught.value)
    assert c.db.get_autocommit() == (not c.capture.joined)
    if c.capture.joined:
        c.cursor.execute("ROLLBACK")
    assert not c.capture.captured
    assert c.told == ["rollback"]


def test_a_signal_at_the_first_instruction_of_the_hook_poisons_the_transaction(
    make: Make, request: pytest.FixtureRequest
) -> None:
    # A program that was started in the background ignores the signal, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    c = make("CREATE TABLE t(a)")
    # A C function as SQL function: the next Python code that runs, and so meets the signal, is the hook.
    c.db.create_scalar_function("interrupt", lambda: None)
    c.db.create_scalar_function("interrupt", _thread.interrupt_main, 0)
    c.begin()
    mark = c.capture.statement_mark()
    with pytest.raises(KeyboardInterrupt) as caught:
        c.cursor.execute("INSERT INTO t VALUES (interrupt())")
    c.capture.unwind(mark, caught.value)
    assert c.capture.poison is caught.value
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert c.db.execute("SELECT count(*) FROM t").get == 0
    assert brief(c.transact("INSERT INTO t VALUES (1)")) == [("INSERT", "t", [1])]


def test_an_end_that_was_not_heard_lets_no_later_transaction_commit_unprepared(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = make("CREATE TABLE t(a)")
    with monkeypatch.context() as patch:
        patch.setattr(Head, "Commit", lambda _: (_ for _ in ()).throw(Stop()))
        c.begin()
        c.do("INSERT INTO t VALUES (1)")
        with pytest.raises(Stop):
            c.cursor.execute("COMMIT")
    c.cursor.execute("BEGIN")
    c.cursor.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(apsw.ConstraintError):
        c.cursor.execute("COMMIT")
    assert brief(c.transact("INSERT INTO t VALUES (3)")) == [("INSERT", "t", [2])]


def test_an_interrupted_join_poisons_the_transaction_that_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    c = make("CREATE TABLE t(a)")
    c.cursor.execute("BEGIN")
    with monkeypatch.context() as patch:
        patch.setattr(Head, "Begin", lambda _: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            c.capture.join()
    c.capture.join()
    c.do("INSERT INTO t VALUES (1)")
    try:
        events = c.commit()
    except apsw.ConstraintError:
        assert isinstance(c.capture.refusal, Stop)
    else:
        assert brief(events) == [("INSERT", "t", [1])]


class Stop(BaseException):
    """What the signal of a worker's time-out raises."""


class Interruption:
    """Raises Stop at the n-th place of the callbacks where ``watch`` sees one of ``events``.

    A trace function sees each line, and the measuring of branches sees nothing meanwhile. A profile function sees the
    places where a signal's handler is run indeed, and disturbs no measuring.
    """

    def __init__(self, number: int, watch: Watch, events: tuple[str, ...]) -> None:
        self.left = number
        self.watch = watch
        self.events = events
        self.cause: Stop | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if "hooks" not in frame.f_code.co_filename:
            return None
        if event in self.events:
            self.left -= 1
            if self.left == 0:
                self.cause = Stop()
                raise self.cause
        return self


INTERRUPTED = (
    "INSERT OR REPLACE INTO t " + NUMBERS.format(1, 9),
    "SAVEPOINT s",
    "INSERT INTO f VALUES ('word')",
    "UPDATE t SET b = b + 1 WHERE a < 5",
    "INSERT INTO t VALUES (50, 0), (1, 0)",
    "SAVEPOINT inner",
    "INSERT INTO v VALUES (1)",
    "ROLLBACK TO s",
    "INSERT INTO f VALUES ('other')",
    "INSERT INTO log VALUES (1), (CAST(x'ff' AS TEXT))",
    "DELETE FROM t WHERE a > 3",
    "RELEASE s",
)


@pytest.mark.parametrize(
    ("watch", "events"),
    [((sys.gettrace, sys.settrace), ("call", "line")), ((sys.getprofile, sys.setprofile), ("call", "c_return"))],
    ids=["lines", "signals"],
)
def test_an_interruption_anywhere_in_the_callbacks_never_lets_a_wrong_buffer_commit(
    make: Make, watch: Watch, events: tuple[str, ...], campaign: bool
) -> None:
    script = (
        "CREATE TABLE t(a UNIQUE, b); CREATE TABLE log(a); CREATE VIRTUAL TABLE f USING fts5(x);"
        "CREATE TABLE v(a, g AS (a)); INSERT INTO t VALUES (1, 1), (2, 1);"
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END"
    )
    step = 1 if campaign or "c_return" in events else 5
    outcomes = {"refused": 0, "exact": 0}
    for number in itertools.count(1, step):
        c = make(script, rows_max=8)
        interruption = Interruption(number, watch, events)
        outcomes[interrupted(c, interruption)] += 1
        if interruption.cause is None:
            break
    assert outcomes["refused"] > 10
    assert outcomes["exact"] >= 1


def interrupted(c: Captured, interruption: Interruption) -> str:
    """Run a transaction with an interruption in it, and say what became of it."""
    state = State(c.db)
    before = State(c.db)
    c.cursor.execute("BEGIN")
    if traced(interruption, c.capture.join) is not None:
        c.capture.join()
    for sql in INTERRUPTED:
        mark = c.capture.statement_mark()
        handles_savepoints = sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK TO"))
        error = traced(interruption, lambda sql=sql: c.cursor.execute(sql).fetchall())
        if isinstance(error, Stop):
            c.capture.unwind(None if handles_savepoints else mark, error)
    c.capture.drain()
    error = traced(interruption, lambda: c.cursor.execute("COMMIT"))
    if isinstance(error, Stop):
        c.capture.unwind(None, error)
    if not c.db.get_autocommit():
        c.cursor.execute("ROLLBACK")
    assert not c.capture.captured
    assert not c.capture.joined
    life = State(c.db)
    if life == before:
        assert c.capture.refusal is interruption.cause
    else:
        state.apply(c.offered)
        assert not state.different(life)
    assert brief(c.transact("INSERT INTO log VALUES (7)"))[0][:2] == ("INSERT", "log")
    return "refused" if life == before else "exact"


def traced(interruption: Interruption, call: Callable[[], object]) -> BaseException | None:
    """Call with the interruption waiting; return what was raised."""
    get, install = interruption.watch
    old = get()
    install(interruption)
    try:
        call()
    except (apsw.Error, Stop) as error:
        return error
    finally:
        install(old)
    return None
