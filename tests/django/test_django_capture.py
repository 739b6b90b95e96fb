"""Whatever way rows are changed through Django, the log has each of them, and who did it."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from tests.django.conftest import ACTOR
from tests.django.support import Said, images, written
from tests.django.ward.models import Note, Patient, Ward
from veritydb.django import acting

pytestmark = pytest.mark.usefixtures("database")
PATIENT, NOTE, WARD = "ward_patient", "ward_note", "ward_ward"


def test_a_saved_model_is_a_row_in_the_log_with_its_values(database: Path) -> None:
    start = len_of(database)
    Patient.objects.create(name="Ada", born=datetime.date(1815, 12, 10), allergies=["penicillin"], fee=Decimal("3.50"))
    ((op, before, after),) = images(database, PATIENT, start)
    assert (op, before) == ("insert", None)
    # The values that SQLite stores: a decimal is a number, a date a text; generated columns that are stored are there.
    assert after[:3] == (1, "Ada", "1815-12-10")
    assert 3.5 in after
    assert '["penicillin"]' in after
    assert "ada" in after


def test_bulk_create_logs_every_row_in_one_transaction_with_the_actor(database: Path) -> None:
    with written(database) as said, acting("dr.lee", "import"):
        Patient.objects.bulk_create([Patient(name=f"patient {number}") for number in range(1_000)])
    assert said == [Said("dr.lee", "import", {(PATIENT, "insert"): 1_000})]


def test_bulk_create_that_updates_conflicts_logs_what_it_did_to_each_row(database: Path) -> None:
    Ward.objects.create(id=1, name="A")
    with written(database) as said, acting("dr.lee"):
        Ward.objects.bulk_create(
            [Ward(id=1, name="A2"), Ward(id=2, name="B")],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["name"],
        )
    assert said == [Said("dr.lee", "", {(WARD, "update"): 1, (WARD, "insert"): 1})]


def test_queryset_update_logs_each_row_before_and_after(database: Path) -> None:
    Patient.objects.bulk_create([Patient(name=f"p{number}", fee=1) for number in range(10)])
    start = len_of(database)
    with acting("dr.lee"):
        Patient.objects.filter(pk__gt=5).update(fee=F("fee") + 1, name=Concat(Value("Mr. "), "name"))
    changes = images(database, PATIENT, start)
    assert [op for op, _, _ in changes] == ["update"] * 5
    assert [(before[1], after[1]) for _, before, after in changes] == [(f"p{n}", f"Mr. p{n}") for n in range(5, 10)]


def test_bulk_update_logs_each_row(database: Path) -> None:
    patients = Patient.objects.bulk_create([Patient(name=f"p{number}") for number in range(30)])
    for patient in patients:
        patient.fee = patient.pk
    with written(database) as said, acting("dr.lee", "new prices"):
        Patient.objects.bulk_update(patients, ["fee"], batch_size=10)
    assert said == [Said("dr.lee", "new prices", {(PATIENT, "update"): 30})]


def test_a_cascade_logs_every_row_that_went(database: Path) -> None:
    ward = Ward.objects.create(name="A")
    user = User.objects.create(username="lee")
    for number in range(3):
        patient = Patient.objects.create(name=f"p{number}", ward=ward)
        Note.objects.create(patient=patient, text="fine").seen_by.add(user)
    with written(database) as said, acting("dr.lee", "closed"):
        ward.delete()
    gone = {(WARD, "delete"): 1, (PATIENT, "delete"): 3, (NOTE, "delete"): 3, ("ward_note_seen_by", "delete"): 3}
    assert said == [Said("dr.lee", "closed", gone)]


def test_a_cascade_that_sqlite_does_itself_is_logged(database: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bed(id INTEGER PRIMARY KEY, ward REFERENCES ward_ward(id) ON DELETE CASCADE)")
        ward = Ward.objects.create(name="A")
        cursor.executemany("INSERT INTO bed(ward) VALUES (%s)", [(ward.pk,)] * 4)
        with written(database) as said, acting("dr.lee"):
            cursor.execute("DELETE FROM ward_ward WHERE id = %s", [ward.pk])
    assert said == [Said("dr.lee", "", {("bed", "delete"): 4, (WARD, "delete"): 1})]


def test_raw_sql_is_logged(database: Path) -> None:
    with written(database) as said, acting("dr.lee", "by hand"), connection.cursor() as cursor:
        cursor.execute("INSERT INTO ward_ward(name) VALUES (%s), ('50%%')", ["A"])
        cursor.execute("UPDATE ward_ward SET name = name || %(more)s", {"more": "!"})
        cursor.executemany("INSERT INTO ward_ward(name) VALUES (%s)", [("B",), ("C",)])
        cursor.executemany("INSERT INTO ward_ward(name) VALUES (%(name)s)", [{"name": "D"}])
    assert said[:2] == [
        Said("dr.lee", "by hand", {(WARD, "insert"): 2}),
        Said("dr.lee", "by hand", {(WARD, "update"): 2}),
    ]
    assert sum(rows.rows[WARD, "insert"] for rows in said[2:]) == 3
    assert {(entry.actor, entry.reason) for entry in said} == {("dr.lee", "by hand")}
    assert sorted(Ward.objects.values_list("name", flat=True)) == ["50%!", "A!", "B", "C", "D"]


def test_sql_on_the_connection_below_django_has_the_actor_too(database: Path) -> None:
    connection.ensure_connection()
    with written(database) as said, acting("dr.lee"):
        connection.connection.execute("INSERT INTO ward_ward(name) VALUES ('A')")
        connection.connection.cursor().execute("INSERT INTO ward_ward(name) VALUES ('B')")
        connection.connection.executemany("INSERT INTO ward_ward(name) VALUES (?)", [("C",)])
        connection.connection.executescript("INSERT INTO ward_ward(name) VALUES ('D')")
    assert [entry.actor for entry in said] == ["dr.lee"] * 4


def test_many_to_many_changes_are_logged(database: Path) -> None:
    users = [User.objects.create(username=name) for name in "abc"]
    note = Note.objects.create(patient=Patient.objects.create(name="Ada"), text="fine")
    with written(database) as said:
        note.seen_by.set(users)
        note.seen_by.remove(users[0])
    table = "ward_note_seen_by"
    assert [entry.rows for entry in said] == [{(table, "insert"): 3}, {(table, "delete"): 1}]


def test_a_savepoint_that_is_rolled_back_leaves_nothing_in_the_log(database: Path) -> None:
    with written(database) as said, transaction.atomic():
        Ward.objects.create(name="A")
        with pytest.raises(IntegrityError), transaction.atomic():
            Ward.objects.create(name="B")
            Ward.objects.create(name="A")
        Ward.objects.create(name="C")
    assert said == [Said(ACTOR, "", {(WARD, "insert"): 2})]
    assert list(Ward.objects.values_list("name", flat=True)) == ["A", "C"]


def test_an_atomic_block_that_fails_leaves_nothing_in_the_log(database: Path) -> None:
    with written(database) as said, pytest.raises(RuntimeError), transaction.atomic():
        Ward.objects.create(name="A")
        raise RuntimeError
    assert said == []


def test_a_durable_block_is_one_transaction_and_calls_back_after_the_log_has_it(database: Path) -> None:
    seen: list[int] = []
    with written(database) as said, transaction.atomic(durable=True):
        transaction.on_commit(lambda: seen.append(connection.connection.last_offset))
        Ward.objects.create(name="A")
        Ward.objects.create(name="B")
    assert [entry.rows for entry in said] == [{(WARD, "insert"): 2}]
    assert seen == [len_of(database) - 1]


def test_select_for_update_is_ignored_as_on_sqlite(database: Path) -> None:
    Ward.objects.create(name="A")
    assert not connection.features.has_select_for_update
    with transaction.atomic():
        assert Ward.objects.select_for_update().get().name == "A"


def len_of(path: Path) -> int:
    from tests.support import files

    return len(files.transactions(path))
