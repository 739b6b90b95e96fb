"""Patients and their notes; and notes of which ``django-simple-history`` keeps a history, for the peer."""

from __future__ import annotations

from django.db import models
from simple_history.models import HistoricalRecords


class Patient(models.Model):
    name = models.CharField(max_length=100, db_index=True)
    born = models.DateField()
    seen = models.DateTimeField(null=True)


class Note(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE, related_name="notes")
    written = models.DateTimeField()
    text = models.TextField()
    dose = models.FloatField(null=True)


class AuditedNote(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE)
    written = models.DateTimeField()
    text = models.TextField()
    dose = models.FloatField(null=True)
    history = HistoricalRecords()
