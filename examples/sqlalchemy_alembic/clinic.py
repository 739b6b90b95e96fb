"""A morning at the clinic, and what its log says of it in the evening.

::

    export CLINIC_KEY='correct horse'
    alembic upgrade head
    python clinic.py
    veritydb log clinic.db --table visits --changes

Nothing here is about logging: a program says who acts and why, and that is in the log with every row it changes.
"""

from __future__ import annotations

import datetime
import os

from models import Patient, Visit
from sqlalchemy import create_engine, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

URL = os.environ.get("CLINIC_URL", "veritydb:///clinic.db?key_env=CLINIC_KEY")


def morning(engine: Engine) -> None:
    by_reception = engine.execution_options(veritydb_actor="reception", veritydb_reason="registration")
    with Session(by_reception) as session:
        session.add_all(
            [
                Patient(name="Jane Smith", born=datetime.date(1980, 2, 29), allergies=["penicillin"]),
                Patient(name="Ali Khan", born=datetime.date(1955, 7, 1)),
            ]
        )
        session.commit()

    by_doctor = engine.execution_options(veritydb_actor="dr.lee", veritydb_reason="first visit")
    with Session(by_doctor) as session:
        jane = session.scalars(select(Patient).where(Patient.name == "Jane Smith")).one()
        jane.visits.append(Visit(note="cough for a week"))
        session.commit()

    # A bulk update, which add-ons that watch the ORM's objects do not see. The log has each row, before and after.
    with engine.connect().execution_options(veritydb_actor="dr.lee", veritydb_reason="correction") as connection:
        connection.execute(update(Visit).values(note=Visit.note + ", no fever"))
        connection.commit()


if __name__ == "__main__":
    clinic = create_engine(URL)
    morning(clinic)
    with Session(clinic) as evening:
        for patient in evening.scalars(select(Patient).order_by(Patient.name)):
            print(patient.name, patient.allergies, [visit.note for visit in patient.visits])
    clinic.dispose()
