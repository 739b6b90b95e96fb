"""Django's ORM: encrypted and captured, against Django's own SQLite backend; bulk against ``django-simple-history``.

A *request* is what a page of a clinic does: it reads a patient and the last 20 of her notes, writes down that she was
seen, and adds three notes, in one ``atomic``, so with one durable commit. The peer is durable as well (WAL,
``synchronous=FULL``). For opening it is the backend as it comes, which makes no WAL and is the faster one. Of bulk
work only the call counts, not the making of the objects.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import KEY, Measured, turns

PATIENTS = 50
NOTES = 40
REQUESTS = 20
OBJECTS = 200
OPENS = 20
BULK = 50_000
_DURABLE = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
_NOW = datetime.datetime(2026, 11, 30, 9, 0, tzinfo=datetime.UTC)


def measure(folder: Path, rounds: int) -> list[Measured]:
    _configure(folder)
    from django.db import connections, transaction
    from simple_history.utils import bulk_create_with_history

    from benchmarks.clinic.models import AuditedNote, Note, Patient

    def fill(alias: str) -> None:
        patients = [Patient(name=f"patient {number}", born=_NOW.date()) for number in range(PATIENTS)]
        Patient.objects.using(alias).bulk_create(patients)
        notes = [note(patient, number) for patient in patients for number in range(NOTES)]
        Note.objects.using(alias).bulk_create(notes)

    def note(patient: Any, number: int, kind: Any = Note) -> Any:
        return kind(patient=patient, written=_NOW, text=f"note {number}, nothing to remark", dose=number / 7)

    def inserts(alias: str) -> None:
        with transaction.atomic(using=alias):
            patient = Patient.objects.using(alias).first()
            for number in range(OBJECTS):
                note(patient, number).save(using=alias)

    def updates(alias: str) -> None:
        with transaction.atomic(using=alias):
            for each in Note.objects.using(alias).order_by("pk")[:OBJECTS]:
                each.text = each.text[::-1]
                each.save(using=alias)

    def selects(alias: str) -> None:
        for patient in Patient.objects.using(alias).all()[:PATIENTS]:
            assert len(list(patient.notes.all()[:20])) == 20

    def requests(alias: str) -> None:
        for number in range(1, REQUESTS + 1):
            with transaction.atomic(using=alias):
                patient = Patient.objects.using(alias).get(pk=number)
                assert len(list(patient.notes.order_by("-pk")[:20])) == 20
                patient.seen = _NOW
                patient.save(using=alias)
                for each in range(3):
                    note(patient, each).save(using=alias)

    def opens(alias: str) -> None:
        for number in range(1, OPENS + 1):
            Patient.objects.using(alias).get(pk=number)
            connections[alias].close()

    made: list[Any] = []
    audited: list[Any] = []

    def make() -> None:
        patient = Patient(pk=1)
        made[:] = [note(patient, number) for number in range(BULK)]
        audited[:] = [note(patient, number, AuditedNote) for number in range(BULK)]

    def bulk(alias: str) -> None:
        Note.objects.using(alias).bulk_create(made)

    def bulk_with_history() -> None:
        bulk_create_with_history(audited, AuditedNote)

    for alias in connections:
        fill(alias)
    results: list[Measured] = []

    def compare(name: str, work: Callable[[str], None], count: int, what: str, floor: float | None, peer: str) -> None:
        for alias in ("ours", peer):
            work(alias)
        mine, theirs, ratio = turns(rounds * 3, lambda: work("ours"), lambda: work(peer))
        results.append(
            Measured(
                name=f"Django, {name}", ours=f"{mine / count * 1e6:,.0f} us {what}",
                peer=f"sqlite3 {theirs / count * 1e6:,.0f}", value=ratio, floor=floor,
            )
        )  # fmt: skip

    compare("insert", inserts, OBJECTS, "an object", 0.8, "default")
    compare("update", updates, OBJECTS, "an object", 0.8, "default")
    compare("select", selects, PATIENTS * 20, "an object", 0.8, "default")
    compare("request", requests, REQUESTS, "a request", 0.8, "default")
    compare("open, get, close", opens, OPENS, "a request", 0.5, "plain")
    compare("the same, the peer in WAL mode", opens, OPENS, "a request", 0.5, "default")
    mine, theirs, ratio = turns(rounds, lambda: bulk("ours"), lambda: bulk("default"), before=make)
    _, with_history, against_history = turns(rounds, lambda: bulk("ours"), bulk_with_history, before=make)
    connections.close_all()
    return [
        *results,
        Measured(
            name=f"Django, bulk_create of {BULK:,}", ours=f"{mine:.2f} s", peer=f"sqlite3 {theirs:.2f}", value=ratio,
            floor=0.6,
        ),
        Measured(
            name="Django, bulk_create_with_history", ours=f"{mine:.2f} s", peer=f"simple-history {with_history:.2f}",
            value=against_history, floor=3,
        ),
    ]  # fmt: skip


def _configure(folder: Path) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    standard = "django.db.backends.sqlite3"
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": standard,
                "NAME": folder / "peer.db",
                "OPTIONS": {"init_command": _DURABLE, "transaction_mode": "IMMEDIATE"},
            },
            "plain": {"ENGINE": standard, "NAME": folder / "plain.db"},
            "ours": {"ENGINE": "veritydb.django", "NAME": folder / "ours.db", "OPTIONS": {"key": KEY}},
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            *("django.contrib.auth", "django.contrib.contenttypes", "simple_history", "benchmarks.clinic"),
        ],
        USE_TZ=True,
    )
    django.setup()
    for alias in connections:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
