"""Migrations: what the schema editor does to tables and rows is what the log makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import NotSupportedError, connection, migrations, models, transaction
from django.db.migrations.state import ProjectState
from django.db.models.functions import Upper

from tests.django.support import images, written
from veritydb.django import acting

pytestmark = pytest.mark.usefixtures("database")

BED = migrations.CreateModel(
    "Bed",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("number", models.IntegerField()),
        ("label", models.CharField(max_length=10, default="bed")),
    ],
)
GENERATED = models.GeneratedField(
    expression=Upper("label"), output_field=models.CharField(max_length=10), db_persist=True
)


def migrate(*operations: migrations.operations.base.Operation, state: ProjectState | None = None) -> ProjectState:
    """Apply ``operations`` as a migration does, and return the state that they lead to."""
    state = ProjectState() if state is None else state
    for operation in operations:
        before, state = state, state.clone()
        operation.state_forwards("beds", state)
        with connection.schema_editor() as editor:
            operation.database_forwards("beds", editor, before, state)
    return state


def fill(count: int) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO beds_bed(number, label) VALUES (%s, 'a')", [(n,) for n in range(count)])


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("Bed", "taken", models.BooleanField(default=False)),
        migrations.AddField("Bed", "upper", GENERATED),
        migrations.AddField("Bed", "notes", models.JSONField(null=True)),
        migrations.AlterField("Bed", "number", models.CharField(max_length=5, unique=True)),
        migrations.AlterField("Bed", "label", models.TextField(db_default="x")),
        migrations.RenameField("Bed", "number", "no"),
        migrations.RemoveField("Bed", "label"),
        migrations.AddIndex("Bed", models.Index(Upper("label"), name="bed_upper")),
        migrations.AddConstraint("Bed", models.CheckConstraint(condition=models.Q(number__gte=0), name="not_below")),
        migrations.AddConstraint("Bed", models.UniqueConstraint(fields=["number", "label"], name="once")),
        migrations.RenameModel("Bed", "Berth"),
        migrations.DeleteModel("Bed"),
    ],
    ids=lambda operation: operation.migration_name_fragment,
)
@pytest.mark.parametrize("rows", [0, 3])
def test_a_table_that_is_changed_is_changed_so_by_its_log(
    database: Path, operation: migrations.operations.base.Operation, rows: int
) -> None:
    state = migrate(BED)
    fill(rows)
    with written(database) as said, acting("dr.lee", "migration"):
        migrate(operation, state=state)
    assert said
    assert {(entry.actor, entry.reason) for entry in said} == {("dr.lee", "migration")}


def test_a_table_made_anew_has_its_rows_in_the_log_again_with_their_new_columns(database: Path) -> None:
    state = migrate(BED)
    fill(2)
    migrate(migrations.AddField("Bed", "taken", models.BooleanField(default=True)), state=state)
    moved = [after for op, _, after in images(database, "new__beds_bed") if op == "insert"]
    assert [row[-1] for row in moved] == [1, 1]


def test_a_migration_that_fails_leaves_schema_rows_and_log_as_they_were(database: Path) -> None:
    state = migrate(BED)
    fill(2)

    def fail(apps: object, editor: object) -> None:
        raise RuntimeError

    with written(database) as said, pytest.raises(RuntimeError), transaction.atomic(), no_foreign_keys():
        migrate(migrations.RemoveField("Bed", "label"), migrations.RunPython(fail), state=state)
    assert said == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT label FROM beds_bed")
        assert cursor.fetchall() == [("a",), ("a",)]


def test_the_editor_wants_foreign_keys_switched_off_before_a_transaction_as_on_sqlite() -> None:
    with (
        pytest.raises(NotSupportedError, match="cannot be used while foreign key constraint checks are enabled"),
        transaction.atomic(),
        connection.schema_editor(),
    ):
        pass


def test_sql_of_a_migration_may_do_what_it_likes_and_is_logged(database: Path) -> None:
    sql = [
        "CREATE TABLE triage(id INTEGER PRIMARY KEY, level)",
        "CREATE TRIGGER t AFTER INSERT ON triage WHEN new.level > 0 "
        "BEGIN INSERT INTO triage(level) VALUES (new.level - 1); END",
        ("INSERT INTO triage(level) VALUES (%s)", [1]),
        "CREATE VIEW urgent AS SELECT * FROM triage WHERE level > 0",
    ]
    migrate(migrations.RunSQL(sql))
    assert [op for op, _, _ in images(database, "triage")] == ["insert", "insert"]


class no_foreign_keys:  # noqa: N801  used as a context manager's function is
    """Lets the schema editor run inside a transaction."""

    def __enter__(self) -> None:
        self._before = connection.disable_constraint_checking
        connection.disable_constraint_checking = lambda: True

    def __exit__(self, *_: object) -> None:
        connection.disable_constraint_checking = self._before
