"""The SQLAlchemy dialect: transactions, stamps, reflection, and every bulk path in the log with its actor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError, NotSupportedError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import QueuePool, SingletonThreadPool

import veritydb
from veritydb.events import Op, Rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.engine import Engine

metadata = MetaData()
patients = Table(
    "patients",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, unique=True),
    Column("data", JSON),
)
notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("patient", ForeignKey("patients.id", ondelete="CASCADE")),
    Column("body", Text),
)
Logged = list[tuple[str, str, list[Any]]]


def _rows(logged: Logged, table: str, op: Op) -> list[tuple[str, int]]:
    """Actor and number of rows of each transaction that did ``op`` to ``table``."""
    found = []
    for actor, _, events in logged:
        count = sum(len(each) for each in events if isinstance(each, Rows) and (each.table, each.op) == (table, op))
        if count:
            found.append((actor, count))
    return found


def test_its_name_stays_sqlite_and_its_driver_is_ours(engine: Engine) -> None:
    assert (engine.dialect.name, engine.dialect.driver) == ("sqlite", "veritydb")
    assert isinstance(engine.pool, QueuePool)
    with engine.connect() as connection:
        assert isinstance(connection.connection.dbapi_connection, veritydb.Connection)
        assert connection.dialect.server_version_info == veritydb.sqlite_version_info


def test_reflection_shows_what_the_program_made_and_nothing_else(engine: Engine) -> None:
    metadata.create_all(engine)
    inspector = inspect(engine)
    assert sorted(inspector.get_table_names()) == ["notes", "patients"]
    assert inspector.get_view_names() == []
    reflected = MetaData()
    reflected.reflect(engine)
    assert sorted(reflected.tables) == ["notes", "patients"]
    (key,) = inspector.get_foreign_keys("notes")
    assert (key["referred_table"], key["options"]) == ("patients", {"ondelete": "CASCADE"})


def test_returning_json_and_upsert_work(engine: Engine) -> None:
    metadata.create_all(engine)
    with engine.begin() as connection:
        made = connection.execute(
            insert(patients).returning(patients.c.id, patients.c.data),
            [{"name": name, "data": {"rank": rank}} for rank, name in enumerate("abc")],
        )
        assert made.all() == [(1, {"rank": 0}), (2, {"rank": 1}), (3, {"rank": 2})]
        again = upsert(patients).values(name="a", data={"rank": 9})
        connection.execute(again.on_conflict_do_update(index_elements=["name"], set_={"data": again.excluded.data}))
        connection.execute(upsert(patients).values(name="b").on_conflict_do_nothing())
        ranks = connection.scalars(select(patients.c.data["rank"].as_integer()).order_by(patients.c.id)).all()
    assert ranks == [9, 1, 2]


def test_savepoints_work_without_event_listeners(engine: Engine) -> None:
    """With pysqlite the release of this savepoint commits, because no transaction is open around it."""
    metadata.create_all(engine)
    with engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(insert(patients).values(name="kept until the end"))
        connection.rollback()
        assert connection.scalar(select(func.count()).select_from(patients)) == 0
        connection.rollback()
        connection.execute(insert(patients).values(name="outer"))
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(insert(patients).values(name="inner"))
            connection.execute(insert(patients).values(name="outer"))
        with connection.begin_nested() as savepoint:
            connection.execute(insert(patients).values(name="undone"))
            savepoint.rollback()
        connection.commit()
        assert connection.scalars(select(patients.c.name)).all() == ["outer"]


def test_savepoints_work_with_the_listeners_that_pysqlite_asks_for(engines: Callable[..., Engine]) -> None:
    engine = engines()

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    metadata.create_all(engine)
    with engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(insert(patients).values(name="a"))
        connection.rollback()
        assert connection.scalar(select(func.count()).select_from(patients)) == 0


def test_autocommit_makes_each_statement_a_transaction(
    engines: Callable[..., Engine], logged: Callable[[], Logged]
) -> None:
    engine = engines("?actor=batch", isolation_level="AUTOCOMMIT")
    metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(insert(patients).values(name="a"))
        connection.execute(insert(patients).values(name="b"))
        connection.rollback()
        assert connection.scalar(select(func.count()).select_from(patients)) == 2
    assert _rows(logged(), "patients", Op.INSERT) == [("batch", 1), ("batch", 1)]


def test_actor_and_reason_are_options_of_an_engine_a_connection_or_a_session(
    engine: Engine, logged: Callable[[], Logged]
) -> None:
    metadata.create_all(engine)
    with engine.connect().execution_options(veritydb_actor="dr.lee", veritydb_reason="first visit") as connection:
        connection.execute(insert(patients).values(name="a"))
        connection.commit()
    with engine.begin() as connection:
        connection.execute(insert(patients).values(name="b"))
    with engine.execution_options(veritydb_actor="nurse").begin() as connection:
        connection.execute(insert(patients).values(name="c"))
    with Session(engine) as session:
        session.connection(execution_options={"veritydb_actor": "dr.wu", "veritydb_reason": "review"})
        session.execute(insert(patients).values(name="d"))
        session.commit()
        session.execute(insert(patients).values(name="e"))
        session.commit()
    stamps = [(actor, reason) for actor, reason, events in logged() if any(isinstance(each, Rows) for each in events)]
    assert stamps == [
        ("dr.lee", "first visit"),
        ("reception", ""),
        ("nurse", ""),
        ("dr.wu", "review"),
        ("reception", ""),
    ]


def test_bulk_paths_are_in_the_log_row_by_row_with_their_actor(engine: Engine, logged: Callable[[], Logged]) -> None:
    """What audit add-ons of an ORM miss, because no object of theirs is flushed."""
    metadata.create_all(engine)
    by = engine.execution_options(veritydb_actor="import")
    with by.begin() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    with by.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.execute(insert(patients), [{"id": number, "name": f"p{number}"} for number in range(1, 501)])
        connection.execute(insert(notes), [{"patient": 1 + number % 500, "body": "x"} for number in range(1000)])
        connection.commit()
        connection.execute(update(patients).where(patients.c.id <= 100).values(data={"seen": True}))
        connection.commit()
        connection.execute(
            update(patients).where(patients.c.id == bindparam("which")).values(name=bindparam("new")),
            [{"which": 1, "new": "one"}, {"which": 2, "new": "two"}],
        )
        connection.commit()
        connection.exec_driver_sql("UPDATE notes SET body = 'y' WHERE id <= ?", (10,))
        connection.execute(text("INSERT INTO notes (body) SELECT name FROM patients WHERE id <= :n"), {"n": 7})
        connection.commit()
        connection.execute(delete(patients).where(patients.c.id <= 5))
        connection.commit()
    found = logged()
    assert _rows(found, "patients", Op.INSERT) == [("import", 500)]
    assert _rows(found, "notes", Op.INSERT) == [("import", 1000), ("import", 7)]
    assert _rows(found, "patients", Op.UPDATE) == [("import", 100), ("import", 2)]
    assert _rows(found, "notes", Op.UPDATE) == [("import", 10)]
    assert _rows(found, "patients", Op.DELETE) == [("import", 5)]
    assert _rows(found, "notes", Op.DELETE) == [("import", 10)]  # The database's own cascade.


class Base(DeclarativeBase):
    pass


class Doctor(Base):
    __tablename__ = "doctors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    shifts: Mapped[list[Shift]] = relationship(cascade="all, delete-orphan")


class Shift(Base):
    __tablename__ = "shifts"
    id: Mapped[int] = mapped_column(primary_key=True)
    doctor: Mapped[int] = mapped_column(ForeignKey("doctors.id"))
    hours: Mapped[int]


def test_the_orm_its_cascades_and_its_bulk_statements_are_in_the_log(
    engine: Engine, logged: Callable[[], Logged]
) -> None:
    Base.metadata.create_all(engine)
    by = engine.execution_options(veritydb_actor="hr")
    with Session(by) as session:
        session.add_all([Doctor(name=f"d{n}", shifts=[Shift(hours=n), Shift(hours=8)]) for n in range(20)])
        session.commit()
        session.execute(insert(Doctor), [{"name": f"e{n}"} for n in range(300)])
        session.execute(update(Shift).where(Shift.hours == 8).values(hours=7))
        session.commit()
        doctor = session.get(Doctor, 3)
        assert doctor is not None
        session.delete(doctor)
        session.commit()
    found = logged()
    assert _rows(found, "doctors", Op.INSERT) == [("hr", 20), ("hr", 300)]
    assert _rows(found, "shifts", Op.INSERT) == [("hr", 40)]
    assert _rows(found, "shifts", Op.UPDATE) == [("hr", 21)]
    assert _rows(found, "shifts", Op.DELETE) == [("hr", 2)]
    assert _rows(found, "doctors", Op.DELETE) == [("hr", 1)]


def test_a_transaction_that_is_rolled_back_is_not_in_the_log(engine: Engine, logged: Callable[[], Logged]) -> None:
    metadata.create_all(engine)
    before = len(logged())
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(insert(patients), [{"name": "a"}, {"name": "a"}])
    assert len(logged()) == before


def test_the_pool_lends_connections_to_all_threads(engine: Engine) -> None:
    metadata.create_all(engine)
    errors: list[BaseException] = []

    def write(name: str) -> None:
        try:
            with engine.begin() as connection:
                connection.execute(insert(patients).values(name=name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(patients)) == 4


def test_a_database_in_memory_has_one_connection_a_thread() -> None:
    engine = create_engine("veritydb://")
    assert isinstance(engine.pool, SingletonThreadPool)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(patients).values(name="a"))
    with engine.connect() as connection:
        assert connection.scalars(select(patients.c.name)).all() == ["a"]
    engine.dispose()


def test_regexp_is_there_also_in_a_schema_and_when_that_is_rebuilt(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE codes (code TEXT CHECK (code REGEXP '^[A-Z]+$'))")
        connection.exec_driver_sql("INSERT INTO codes VALUES ('ABC')")
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO codes VALUES ('abc')")


def test_a_connection_that_lost_its_log_is_replaced() -> None:
    dialect = create_engine("veritydb://").dialect
    assert dialect.is_disconnect(veritydb.LogUnavailable("disk full"), None, None)
    assert dialect.is_disconnect(veritydb.OutcomeUnknown("who knows"), None, None)
    assert dialect.is_disconnect(veritydb.ProgrammingError("Cannot operate on a closed database."), None, None)
    assert not dialect.is_disconnect(veritydb.OperationalError("database is locked"), None, None)


def test_errors_of_veritydb_come_as_sqlalchemys(engine: Engine, tmp_path: Path) -> None:
    with engine.connect() as connection:
        with pytest.raises(NotSupportedError, match="writable_schema") as caught:
            connection.exec_driver_sql("PRAGMA writable_schema = ON")
        assert isinstance(caught.value.orig, veritydb.StatementRefused)
        with pytest.raises(OperationalError, match="no such table"):
            connection.exec_driver_sql("SELECT * FROM nowhere")
    wrong = create_engine(f"veritydb:///{tmp_path / 'clinic.db'}?key=unexpected")
    with pytest.raises(DBAPIError) as failed:
        wrong.connect()
    assert isinstance(failed.value.orig, veritydb.NotEncrypted)
    assert "unexpected" not in str(failed.value)


def test_writing_into_an_attached_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("ATTACH ? AS other", (str(tmp_path / "other.sqlite"),))
        with pytest.raises(NotSupportedError, match="is attached"):
            connection.exec_driver_sql("CREATE TABLE other.t (a)")


def test_in_memory_an_attached_file_may_be_written_unless_it_has_a_log(
    engine: Engine, path: Path, tmp_path: Path
) -> None:
    metadata.create_all(engine)
    memory = create_engine("veritydb://")
    with memory.connect() as connection:
        connection.exec_driver_sql("ATTACH ? AS plain", (str(tmp_path / "plain.sqlite"),))
        connection.exec_driver_sql("ATTACH ? AS clinic", (str(path),))
        connection.exec_driver_sql("CREATE TABLE plain.t (a)")
        connection.exec_driver_sql("INSERT INTO plain.t VALUES (1)")
        connection.exec_driver_sql("ALTER TABLE plain.t ADD COLUMN b")
        connection.commit()
        connection.exec_driver_sql("UPDATE plain.t SET b = 2")
        assert connection.exec_driver_sql("SELECT * FROM plain.t").all() == [(1, 2)]
        connection.rollback()
        assert connection.exec_driver_sql("SELECT * FROM plain.t").all() == [(1, None)]
        for sql in ("INSERT INTO clinic.patients (name) VALUES ('x')", "DROP TABLE clinic.notes"):
            with pytest.raises(NotSupportedError, match="is attached"):
                connection.exec_driver_sql(sql)
        connection.exec_driver_sql("DROP TABLE plain.t")
        connection.commit()
    memory.dispose()
