"""What a subscriber is told: committed changes, in order, each once, as it asked for them; and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import veritydb
from tests.support.subscribed import WAIT, told
from veritydb.subscriptions import (
    Cursor,
    SchemaChange,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    TableCleared,
    TableUpdate,
)

if TYPE_CHECKING:
    pass


def test_a_subscriber_gets_what_is_committed_after_it_subscribed_and_nothing_else(db: veritydb.Connection) -> None:
    db.execute("INSERT INTO patients VALUES (1, 'before', 0)")
    db.commit()
    with db.subscribe() as updates:
        db.execute("INSERT INTO patients VALUES (2, 'rolled back', 0)")
        db.rollback()
        db.execute("INSERT INTO patients VALUES (3, 'open', 0)")
        assert updates.get(0.05) is None
        db.commit()
        update = updates.get(WAIT)
        assert told(update) == ("patients", "insert", 3)
        assert isinstance(update, TableUpdate)
        assert update.offset == db.last_offset
        assert update.before is update.after is None
        assert updates.get(0) is None


def test_images_are_the_rows_before_and_after_by_column(db: veritydb.Connection) -> None:
    with db.subscribe(images=True) as updates:
        db.execute("INSERT INTO patients VALUES (1, 'Jane', 1970)")
        db.execute("UPDATE patients SET name = 'Janet'")
        db.execute("DELETE FROM patients")
        db.commit()
        inserted, updated, deleted = (updates.get(WAIT) for _ in range(3))
    jane, janet = {"id": 1, "name": "Jane", "born": 1970}, {"id": 1, "name": "Janet", "born": 1970}
    assert isinstance(inserted, TableUpdate)
    assert isinstance(updated, TableUpdate)
    assert isinstance(deleted, TableUpdate)
    assert (inserted.before, inserted.after) == (None, jane)
    assert (updated.before, updated.after, updated.changed) == (jane, janet, ("name",))
    assert (deleted.before, deleted.after) == (janet, None)
    assert [each.number for each in (inserted, updated, deleted)] == [0, 1, 2]


def test_a_row_of_a_table_without_rowid_is_named_by_its_primary_key(db: veritydb.Connection) -> None:
    with db.subscribe("stays") as updates:
        db.execute("INSERT INTO stays VALUES ('east', 4, 1)")
        db.execute("UPDATE stays SET ward = 'west'")
        db.commit()
        inserted, updated = updates.get(WAIT), updates.get(WAIT)
    assert told(inserted) == ("stays", "insert", (4, "east"))
    assert told(updated) == ("stays", "update", (4, "west"))
    assert isinstance(updated, TableUpdate)
    assert updated.row_id_before == (4, "east")


def test_tables_actions_and_a_predicate_choose(db: veritydb.Connection) -> None:
    with (
        db.subscribe(tables=["STAYS"]) as stays,
        db.subscribe(actions="delete") as deletes,
        db.subscribe("patients", where=lambda update: (update.after or {}).get("born") == 2000) as young,
    ):
        db.execute("INSERT INTO patients VALUES (1, 'a', 2000), (2, 'b', 1950)")
        db.execute("INSERT INTO stays VALUES ('east', 1, 1)")
        db.execute("DELETE FROM patients WHERE id = 2")
        db.commit()
        assert [told(each) for each in stays.drain()] == [("stays", "insert", (1, "east"))]
        assert [told(each) for each in deletes.drain()] == [("patients", "delete", 2)]
        found = young.drain()
        assert [told(each) for each in found] == [("patients", "insert", 1)]
        assert isinstance(found[0], TableUpdate)
        assert found[0].after is None, "the predicate sees the row, the subscriber did not ask for it"


def test_since_goes_on_behind_an_offset_or_a_cursor(db: veritydb.Connection) -> None:
    for number in range(1, 4):
        db.execute("INSERT INTO patients VALUES (?, 'x', 0)", (number,))
        db.execute("INSERT INTO stays VALUES ('w', ?, 0)", (number,))
        db.commit()
    with db.subscribe(since=-1) as everything:
        all_of_it = everything.drain()
    assert [type(each) for each in all_of_it[:2]] == [SchemaChange, SchemaChange]
    assert len(all_of_it) == 8
    for place, each in enumerate(all_of_it):
        for since in (each.cursor, str(each.cursor)):
            with db.subscribe(since=since) as rest:
                assert rest.drain() == all_of_it[place + 1 :]
    assert db.last_offset is not None
    with db.subscribe(since=db.last_offset - 1) as rest:
        assert rest.drain() == all_of_it[-2:]


def test_a_snapshot_comes_first_and_the_tail_follows_without_gap_or_overlap(db: veritydb.Connection) -> None:
    db.execute("INSERT INTO patients VALUES (1, 'a', 0), (2, 'b', 0)")
    db.commit()
    with db.subscribe("patients", images=True, snapshot=True) as updates:
        db.execute("INSERT INTO patients VALUES (3, 'c', 0)")
        db.commit()
        begin, one, two, end, tail = (updates.get(WAIT) for _ in range(5))
    assert isinstance(begin, SnapshotBegin)
    assert begin.tables == ("patients",)
    assert isinstance(one, SnapshotRow)
    assert isinstance(two, SnapshotRow)
    assert [one.row, two.row] == [{"id": 1, "name": "a", "born": 0}, {"id": 2, "name": "b", "born": 0}]
    assert isinstance(end, SnapshotEnd)
    assert told(tail) == ("patients", "insert", 3)
    assert tail is not None
    assert tail.offset == end.offset + 1


def test_names_are_those_of_the_time_of_the_change(db: veritydb.Connection) -> None:
    db.execute("INSERT INTO patients VALUES (1, 'a', 1)")
    db.execute("ALTER TABLE patients RENAME COLUMN born TO year")
    db.execute("ALTER TABLE patients ADD COLUMN note TEXT DEFAULT '-'")
    db.execute("UPDATE patients SET year = 2")
    db.execute("ALTER TABLE patients DROP COLUMN name")
    db.execute("ALTER TABLE patients RENAME TO people")
    db.execute("DELETE FROM people")
    db.commit()
    with db.subscribe(since=-1, images=True) as updates:
        found = updates.drain()
    rows = [each for each in found if isinstance(each, TableUpdate)]
    assert [each.columns for each in rows] == [
        ("id", "name", "born"),
        ("id", "name", "year", "note"),
        ("id", "year", "note"),
    ]
    assert [each.table for each in rows] == ["patients", "patients", "people"]
    assert rows[1].before == {"id": 1, "name": "a", "year": 1, "note": "-"}
    renamed = [each for each in found if isinstance(each, SchemaChange)][-1]
    assert (renamed.dropped, renamed.created) == ({"patients"}, {"people"})


def test_a_table_that_is_dropped_while_subscribed_is_told_and_may_come_back(db: veritydb.Connection) -> None:
    with db.subscribe("stays") as updates:
        db.execute("INSERT INTO stays VALUES ('w', 1, 1)")
        db.execute("DROP TABLE stays")
        db.execute("CREATE TABLE other (a)")
        db.execute("CREATE TABLE stays (a)")
        db.execute("INSERT INTO stays VALUES (1)")
        db.commit()
        found = updates.drain()
    assert told(found[0]) == ("stays", "insert", (1, "w"))
    changes = [each for each in found if isinstance(each, SchemaChange)]
    assert [(each.dropped, each.created) for each in changes] == [({"stays"}, set()), (set(), {"stays"})]
    assert told(found[-1]) == ("stays", "insert", 1)


def test_what_is_nobodys_business_is_not_told(db: veritydb.Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE notes USING fts5(body)")
    with db.subscribe() as updates:
        db.execute("INSERT INTO notes VALUES ('shadow tables are SQLite''s')")
        db.execute("INSERT INTO patients VALUES (1, 'a', 0)")
        db.execute("ANALYZE")
        db.commit()
        assert [told(each) for each in updates.drain()] == [("patients", "insert", 1)]


def test_rows_with_a_computed_column_in_memory_are_told_by_their_outcome() -> None:
    with veritydb.connect(":memory:") as db:
        db.execute("CREATE TABLE t (a, twice AS (a * 2))")
        with db.subscribe(images=True) as updates:
            db.execute("INSERT INTO t VALUES (1), (2)")
            db.commit()
            first, *rest = updates.drain()
    db.close()
    assert isinstance(first, TableCleared)
    assert [each.after for each in rest if isinstance(each, TableUpdate)] == [{"a": 1}, {"a": 2}]


def test_what_cannot_be_is_refused(db: veritydb.Connection) -> None:
    with pytest.raises(veritydb.UnknownTable) as unknown:
        db.subscribe("nonsense")
    assert unknown.value.table == "nonsense"
    for hidden in ("_veritydb_applied", "sqlite_schema"):
        with pytest.raises(veritydb.UnknownTable):
            db.subscribe(hidden)
    with pytest.raises(veritydb.CursorAhead) as ahead:
        db.subscribe(since=1_000)
    assert (ahead.value.offset, ahead.value.last) == (1_000, db.last_offset)
    for nonsense in ("x", "1.2.3", "1@", "-2", "1e3", 1.5, True, "9" * 30, "٣"):
        with pytest.raises(veritydb.CursorMalformed):
            db.subscribe(since=nonsense)
    with pytest.raises(ValueError, match="actions are"):
        db.subscribe(actions="truncate")


def test_a_predicate_that_raises_hurts_only_its_own_subscriber(db: veritydb.Connection) -> None:
    def fails(update: TableUpdate) -> bool:
        raise LookupError(update.table)

    with db.subscribe(where=fails) as broken, db.subscribe() as sound:
        db.execute("INSERT INTO patients VALUES (1, 'a', 0)")
        db.commit()
        with pytest.raises(LookupError):
            broken.get(WAIT)
        assert told(sound.get(WAIT)) == ("patients", "insert", 1)


@given(
    cursor=st.builds(
        Cursor,
        st.integers(-1, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        st.sampled_from(["", "0123456789abcdef"]),
    )
)
def test_a_cursor_is_its_text(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


@given(text=st.text(alphabet="0123456789.@abcdef-x \n٣", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_cursor_or_is_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except veritydb.CursorMalformed:
        return
    assert Cursor.parse(str(cursor)) == cursor
