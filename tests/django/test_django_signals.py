"""``row_committed``: what was committed, and only that, whatever part of Django wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.dispatch import receiver

from tests.django.ward.models import Note, Patient, Ward
from veritydb.django.signals import row_committed


@pytest.fixture
def heard(database: Path) -> Iterator[list[tuple[Any, ...]]]:
    """What receivers have been sent."""
    found: list[tuple[Any, ...]] = []

    @receiver(row_committed)
    def listen(sender: Any, update: Any, using: str, **_: Any) -> None:
        found.append((sender, update.action, update.row_id))
        assert using == "default"
        assert not connection.in_atomic_block

    connection.close()  # Opened before anybody listened.
    yield found
    row_committed.disconnect(listen)
    connection.close()


def test_it_comes_after_the_commit_and_not_for_what_is_rolled_back(heard: list[tuple[Any, ...]]) -> None:
    with transaction.atomic():
        ward = Ward.objects.create(name="East")
        try:
            with transaction.atomic():
                Ward.objects.create(name="undone")
                raise LookupError
        except LookupError:
            pass
        assert heard == []
    assert heard == [(Ward, "insert", ward.pk)]


def test_bulk_updates_and_cascades_are_sent_row_by_row(heard: list[tuple[Any, ...]]) -> None:
    patients = Patient.objects.bulk_create([Patient(name="Jane"), Patient(name="John")])
    Note.objects.create(patient=patients[0], text="x")
    heard.clear()
    Patient.objects.update(fee=F("fee") + 1)
    assert heard == [(Patient, "update", patient.pk) for patient in patients]
    heard.clear()
    patients[0].delete()
    assert [(sender, action) for sender, action, _ in heard] == [(Note, "delete"), (Patient, "delete")]


def test_a_receiver_of_one_model_that_fails_undoes_nothing(
    heard: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    images: list[Any] = []

    @receiver(row_committed, sender=Ward)
    def fails(sender: Any, update: Any, **_: Any) -> None:
        images.append(update.after)
        raise LookupError

    try:
        Ward.objects.create(name="West")
        Patient.objects.create(name="Jane")
    finally:
        row_committed.disconnect(fails, sender=Ward)
    assert Ward.objects.filter(name="West").exists()
    assert [image["name"] for image in images] == ["West"]
    assert "LookupError" in caplog.text
