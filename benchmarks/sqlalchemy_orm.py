"""SQLAlchemy's ORM: encrypted and captured, against its pysqlite (WAL, ``synchronous=FULL``, so durable as well).

A *request* is what a page of a clinic does: it reads a patient and the last 20 of her notes, writes down that she was
seen, adds three notes, and commits once.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import DateTime, Engine, ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.measuring import KEY, Measured, turns

PATIENTS = 50
NOTES = 40
REQUESTS = 20
OBJECTS = 500
_NOW = datetime.datetime(2026, 11, 30, 9, 0)


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    seen: Mapped[datetime.datetime | None] = mapped_column(DateTime)


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patient.id"), index=True)
    written: Mapped[datetime.datetime] = mapped_column(DateTime)
    text: Mapped[str]
    dose: Mapped[float]


def note(patient: int, number: int) -> Note:
    return Note(patient_id=patient, written=_NOW, text=f"note {number}, nothing to remark", dose=number / 7)


def inserts(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all([note(1, number) for number in range(OBJECTS)])
        session.commit()


def updates(engine: Engine) -> None:
    with Session(engine) as session:
        for each in session.scalars(select(Note).order_by(Note.id).limit(OBJECTS)):
            each.text = each.text[::-1]
        session.commit()


def selects(engine: Engine) -> None:
    with Session(engine) as session:
        for patient in range(1, PATIENTS + 1):
            notes = session.scalars(select(Note).where(Note.patient_id == patient).limit(20)).all()
            assert len(notes) == 20


def requests(engine: Engine) -> None:
    for number in range(1, REQUESTS + 1):
        with Session(engine) as session:
            patient = session.get_one(Patient, number)
            last = select(Note).where(Note.patient_id == number).order_by(Note.id.desc()).limit(20)
            assert len(session.scalars(last).all()) == 20
            patient.seen = datetime.datetime.now()
            session.add_all([note(number, each) for each in range(3)])
            session.commit()


def measure(folder: Path, rounds: int) -> list[Measured]:
    ours = create_engine(f"sqlite+veritydb:///{folder}/ours.db?key=hex:{KEY.hex()}")
    peer = create_engine(f"sqlite:///{folder}/peer.db")

    @event.listens_for(peer, "connect")
    def durable(connection: object, _: object) -> None:
        for setting in ("journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {setting}")

    for engine in (ours, peer):
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all([Patient(id=number, name=f"patient {number}") for number in range(1, PATIENTS + 1)])
            session.add_all([note(patient, each) for patient in range(1, PATIENTS + 1) for each in range(NOTES)])
            session.commit()

    def compare(name: str, work: Callable[[Engine], None], count: int, what: str) -> Measured:
        work(ours), work(peer)
        mine, theirs, ratio = turns(rounds * 3, lambda: work(ours), lambda: work(peer))
        return Measured(
            name=f"SQLAlchemy, {name}", ours=f"{mine / count * 1e6:,.0f} us {what}",
            peer=f"sqlite3 {theirs / count * 1e6:,.0f}", value=ratio, floor=0.8,
        )  # fmt: skip

    try:
        return [
            compare("insert", inserts, OBJECTS, "an object"),
            compare("update", updates, OBJECTS, "an object"),
            compare("select", selects, PATIENTS * 20, "an object"),
            compare("request", requests, REQUESTS, "a request"),
        ]
    finally:
        ours.dispose()
        peer.dispose()
