"""Patients and their notes over HTTP, with asyncio throughout. Whoever signs in is the actor in the log.

::

    export CLINIC_KEY='correct horse'
    uvicorn app:app
    curl -H 'X-User: dr.lee' -H 'content-type: application/json' -d '{"name": "Jane"}' localhost:8000/patients
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"))
    body: Mapped[str]


class PatientIn(BaseModel):
    name: str


class NoteIn(BaseModel):
    body: str


class PatientOut(PatientIn):
    model_config = ConfigDict(from_attributes=True)
    id: int


class NoteOut(NoteIn):
    model_config = ConfigDict(from_attributes=True)
    id: int
    patient_id: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database, and make its tables at the first start."""
    url = os.environ.get("CLINIC_URL", "veritydb+aio:///clinic.db?key_env=CLINIC_KEY")
    app.state.engine = engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def session(
    request: Request, x_user: Annotated[str, Header()], x_reason: Annotated[str, Header()] = ""
) -> AsyncIterator[AsyncSession]:
    """Lend a session whose transactions are the user's. In earnest, the user comes from a token, not from a header."""
    stamped = request.app.state.engine.execution_options(veritydb_actor=x_user, veritydb_reason=x_reason)
    async with AsyncSession(stamped, expire_on_commit=False) as lent:
        yield lent


InSession = Annotated[AsyncSession, Depends(session)]


@app.post("/patients", status_code=201)
async def add_patient(given: PatientIn, session: InSession) -> PatientOut:
    patient = Patient(name=given.name)
    session.add(patient)
    await session.commit()
    return PatientOut.model_validate(patient)


@app.get("/patients")
async def list_patients(session: InSession) -> list[PatientOut]:
    found = await session.scalars(select(Patient).order_by(Patient.id))
    return [PatientOut.model_validate(patient) for patient in found]


@app.post("/patients/{patient_id}/notes", status_code=201)
async def add_note(patient_id: int, given: NoteIn, session: InSession) -> NoteOut:
    if await session.get(Patient, patient_id) is None:
        raise HTTPException(404, "there is no such patient")
    note = Note(patient_id=patient_id, body=given.body)
    session.add(note)
    await session.commit()
    return NoteOut.model_validate(note)


@app.delete("/patients/{patient_id}/notes", status_code=204)
async def delete_notes(patient_id: int, session: InSession) -> None:
    for note in await session.scalars(select(Note).where(Note.patient_id == patient_id)):
        await session.delete(note)
    await session.commit()
