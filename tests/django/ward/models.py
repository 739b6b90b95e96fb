from __future__ import annotations

from django.contrib import admin
from django.db import models
from django.db.models.functions import MD5, Lower


class Ward(models.Model):
    name = models.CharField(max_length=40, unique=True)

    class Meta:
        app_label = "ward"


class Patient(models.Model):
    name = models.CharField(max_length=80)
    born = models.DateField(null=True)
    ward = models.ForeignKey(Ward, models.CASCADE, null=True, blank=True)
    allergies = models.JSONField(default=list)
    fee = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    sort_name = models.GeneratedField(
        expression=Lower("name"), output_field=models.CharField(max_length=80), db_persist=True
    )
    digest = models.GeneratedField(
        expression=MD5("name"), output_field=models.CharField(max_length=32), db_persist=False
    )

    class Meta:
        app_label = "ward"
        indexes = [models.Index(MD5("name"), name="patient_md5")]  # noqa: RUF012  Django's way
        constraints = [  # noqa: RUF012  Django's way
            # REGEXP is a function of Django's: SQLite has only the operator.
            models.CheckConstraint(condition=models.Q(name__regex=r"\S"), name="patient_has_a_name")
        ]


class Note(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE)
    text = models.TextField()
    seen_by = models.ManyToManyField("auth.User")

    class Meta:
        app_label = "ward"


admin.site.register(Patient)
