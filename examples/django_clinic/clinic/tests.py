"""The clinic's own tests. ``manage.py test`` runs them on a file, test_clinic.db, which has a log as the real one."""

from datetime import date
from io import StringIO

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import TransactionTestCase

from clinic.history import history
from clinic.models import Appointment, Invoice, Note, Patient


class ClinicTests(TransactionTestCase):
    """Not TestCase: that rolls each test back, so nothing of it would be in the log."""

    def setUp(self):
        self.lee = User.objects.create_superuser("dr.lee", password="secret")
        self.client.force_login(self.lee)
        self.patient = Patient.objects.create(name="Jane Smith", born=date(1980, 2, 29))

    def test_a_change_in_the_admin_is_in_the_history_with_its_actor(self):
        data = {"name": "Jane Doe", "born": "1980-02-29", "allergies": "[]", "discharged_0": "", "discharged_1": ""}
        data |= {"notes-TOTAL_FORMS": "1", "notes-INITIAL_FORMS": "0", "notes-0-text": "Married."}
        address = f"/admin/clinic/patient/{self.patient.pk}/change/"
        self.assertEqual(self.client.post(address, data).status_code, 302)
        made, changed = history(Patient, self.patient.pk)
        self.assertEqual((made.what, made.actor), ("insert", "manage.py"))
        self.assertEqual((changed.what, changed.actor, changed.reason), ("update", "dr.lee", f"POST {address}"))
        self.assertEqual(changed.values, {"name": ("Jane Smith", "Jane Doe")})
        # The note is in the same transaction.
        self.assertEqual(history(Note, Note.objects.get().pk)[0].offset, changed.offset)

    def test_a_discharge_has_its_reason(self):
        self.client.post(f"/patients/{self.patient.pk}/discharge/", {"why": "recovered"})
        change = history(Patient, self.patient.pk)[-1]
        self.assertEqual((change.actor, change.reason), ("dr.lee", "discharge: recovered"))
        self.assertEqual(list(change.values), ["discharged"])

    def test_an_update_of_many_rows_is_in_the_history_of_each(self):
        call_command("seed", patients=3, verbosity=0, stdout=StringIO())
        chosen = list(Invoice.objects.values_list("pk", flat=True))
        data = {"action": "mark_paid", "_selected_action": chosen}
        self.client.post("/admin/clinic/invoice/", data)
        for pk in chosen:
            self.assertEqual(history(Invoice, pk)[-1].values, {"paid": (0, 1)})
            self.assertEqual(history(Invoice, pk)[-1].actor, "dr.lee")

    def test_what_is_gone_has_a_history(self):
        note = Note.objects.create(patient=self.patient, text="Allergic to nuts?")
        pk = note.pk
        Patient.objects.all().delete()
        self.assertEqual([change.what for change in history(Note, pk)], ["insert", "delete"])

    def test_the_history_page_shows_it(self):
        page = self.client.get(f"/admin/clinic/patient/{self.patient.pk}/history/")
        self.assertContains(page, "Jane Smith")
        self.assertContains(page, "manage.py")

    def test_the_schema_has_nothing_to_migrate_and_the_file_has_a_log(self):
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)
        self.assertGreater(connection.connection.last_offset, 0)
        self.assertEqual(Appointment.objects.count(), 0)
