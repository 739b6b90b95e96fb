"""``manage.py seed``: some patients to try things out with."""

from datetime import UTC, date, datetime, timedelta

from django.core.management.base import BaseCommand
from django.db import transaction

from clinic.models import Appointment, Invoice, Note, Patient
from veritydb.django import acting

FIRST = datetime(2031, 5, 5, 8, tzinfo=UTC)


class Command(BaseCommand):
    help = "Make patients, notes, appointments and invoices."

    def add_arguments(self, parser):
        parser.add_argument("--patients", type=int, default=50)

    def handle(self, *, patients, **options):
        with acting(reason="made-up patients"), transaction.atomic():
            made = Patient.objects.bulk_create(
                Patient(name=f"Patient {number}", born=date(1950, 1, 1) + timedelta(days=97 * number))
                for number in range(patients)
            )
            begins = Appointment.objects.count()
            Note.objects.bulk_create(Note(patient=each, text="First visit.") for each in made)
            Appointment.objects.bulk_create(
                Appointment(patient=each, begins=FIRST + timedelta(minutes=15 * (begins + place)))
                for place, each in enumerate(made)
            )
            Invoice.objects.bulk_create(Invoice(patient=each, net="80.00", tax="15.20") for each in made)
        self.stdout.write(f"{patients} patients")
