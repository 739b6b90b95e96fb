"""Adapters, converters and the values that need neither."""

from __future__ import annotations

import random
import struct
from collections import UserDict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

import veritydb
from tests.support.twins import See, same
from veritydb import adaptation
from veritydb.adaptation import as_bytes, bindable, bindable_rows, converter_names, converters_of


def test_parameters_of_stored_types_are_passed_on_as_they_are() -> None:
    for parameters in ((), (1, "a", 1.5, b"x", None, True), [1, 2], {"a": 1}):
        assert bindable(parameters) is parameters
    rows = [(1, "a"), (2, "b")]
    assert bindable_rows(rows) is rows


def test_rows_are_adapted_one_by_one_if_any_value_needs_it() -> None:
    rows = [(1, bytearray(b"a")), [2, "b"], {"n": 3}]
    first, second, third = bindable_rows(rows)
    assert first == (1, bytearray(b"a"))
    assert first is not rows[0]
    assert second == [2, "b"]
    assert dict(third) == {"n": 3}


def test_a_generator_of_rows_is_not_read_ahead() -> None:
    taken: list[int] = []

    def rows() -> Any:
        for number in range(5):
            taken.append(number)
            yield (number,)

    iterator = iter(bindable_rows(rows()))
    assert next(iterator) == (0,)
    assert taken == [0]


def test_only_the_names_that_occur_are_adapted_and_each_once() -> None:
    asked: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def __conform__(self, protocol: object) -> str:
            asked.append(self.name)
            return self.name

    con = veritydb.connect(":memory:")
    names = {name: Named(name) for name in ("a", "b", "c")}
    assert con.execute("SELECT :a, :b, :a", names).fetchall() == [("a", "b", "a")]
    assert asked == ["a", "b"]
    assert con.execute("SELECT :a", UserDict(names)).fetchall() == [("a",)]
    con.close()


def test_an_adapter_may_raise_whatever_it_likes(tmp_path: Path) -> None:
    class Refusing:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __conform__(self, protocol: object) -> None:
            raise self.error("mine")

    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:"))
        con.execute("CREATE TABLE t(a)")
        for error in (TypeError, ValueError, LookupError, ZeroDivisionError):
            see(lambda error=error: con.execute("INSERT INTO t VALUES (?)", (Refusing(error),)))
            see(lambda error=error: con.executemany("INSERT INTO t VALUES (?)", [(1,), (Refusing(error),)]))
        see(con.execute("SELECT count(*) FROM t").fetchall())
        con.rollback()

    same(tmp_path, program)


def test_a_list_that_changes_under_its_adapters_is_an_index_error(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        class Clearing:
            def __conform__(self, protocol: object) -> str:
                parameters.clear()
                return "x"

        parameters: list[Any] = [Clearing(), 1]
        con = see.opened(db.connect(":memory:"))
        see(lambda: type(con.execute("SELECT ?, ?", parameters)))

    same(tmp_path, program)


@pytest.mark.parametrize("parameters", [5, None, {1}, iter([1]), object()])
def test_what_is_neither_sequence_nor_mapping_is_refused(parameters: Any) -> None:
    with pytest.raises(veritydb.ProgrammingError, match="parameters are of unsupported type"):
        bindable(parameters)


def test_dates_go_in_and_come_out(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:", detect_types=db.PARSE_DECLTYPES))
        con.execute("CREATE TABLE t(d date, s timestamp)")
        moments = [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2020, 2, 29, 1, 2, 3, 40)]
        con.executemany("INSERT INTO t VALUES (?, ?)", [(moment.date(), moment) for moment in moments])
        for text in ("2012-04-04 15:06:00.456", "2012-04-04 15:06:00.123456789", "2012-04-04 15:06:00"):
            con.execute("INSERT INTO t(s) VALUES (?)", (text,))
        see(con.execute("SELECT * FROM t").fetchall())
        con.execute("UPDATE t SET d = 'no date'")
        see(lambda: con.execute("SELECT d FROM t").fetchall())

    same(tmp_path, program)


def test_numbers_reach_a_converter_as_sqlite_writes_them() -> None:
    db = apsw.Connection(":memory:")
    chance = random.Random(7)
    numbers = [0.0, 0.1 + 0.2, 1e15, 1e16, 1e22, 5e-324, 1.7e308, float("inf"), -float("inf")]
    numbers += [struct.unpack("<d", chance.randbytes(8))[0] for _ in range(200)]
    for number in [*numbers, 0, -1, 2**63 - 1, -(2**63)]:
        if number == number:  # NaN is stored as NULL.
            assert as_bytes(number) == str(db.execute("SELECT CAST(? AS TEXT)", (number,)).get).encode()
    db.close()
    assert as_bytes(None) is None
    assert as_bytes("\u00e9") == b"\xc3\xa9"


def test_converters_are_found_by_the_first_word_of_a_declaration_and_by_brackets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adaptation, "converters", {"KIND": len, "OTHER": len})

    def found(name: str, declared: str | None, *, by_declaration: bool = True, by_name: bool = True) -> bool:
        names = converter_names([(name, declared)], by_declaration=by_declaration, by_name=by_name)
        return converters_of(names) is not None

    assert found("a", "kind")
    assert found("a", "Kind(5) NOT NULL")
    assert found("a", "kind of a thing")
    assert not found("a", "mankind")
    assert not found("a", "kind", by_declaration=False)
    assert found("a [other]", None)
    assert found("[OTHER]", None)
    assert not found("a [other]", None, by_name=False)
    assert not found("a [other", None)
    assert found("a [none]", "kind")


def test_converters_see_the_bytes_of_text_that_is_no_utf8(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        db.register_converter("raw", lambda data: data)
        con = see.opened(db.connect(":memory:", detect_types=db.PARSE_DECLTYPES))
        con.execute("CREATE TABLE t(id INTEGER, a raw)")
        con.executemany("INSERT INTO t VALUES (?, CAST(? AS TEXT))", [(1, b"a"), (2, b"\xff"), (3, b"b")])
        see(con.execute("SELECT id, a FROM t ORDER BY id").fetchall())
        see(list(con.execute("SELECT a FROM t ORDER BY id")))
        del db.converters["RAW"]

    same(tmp_path, program)


def test_what_returning_returns_is_converted_too(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:", detect_types=db.PARSE_DECLTYPES | db.PARSE_COLNAMES))
        con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, d date)")
        cursor = con.execute(
            "INSERT INTO t(d) VALUES (?), (NULL) RETURNING d, id AS 'i [date]', d", (date(2020, 1, 2),)
        )
        see([cursor.description])
        see(cursor.fetchone)
        cursor = con.execute("DELETE FROM t RETURNING d, id")
        see(cursor.fetchall())
        see(con.execute("UPDATE t SET d = NULL RETURNING d").fetchall())

    same(tmp_path, program)
