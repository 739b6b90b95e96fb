from django.conf import settings
from django.db import models


class Patient(models.Model):
    name = models.CharField(max_length=120)
    born = models.DateField()
    allergies = models.JSONField(default=list, blank=True)
    discharged = models.DateTimeField(null=True, blank=True)

    def __str__(self):
        return self.name


class Note(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE, related_name="notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True)
    written = models.DateTimeField(auto_now_add=True)
    text = models.TextField()

    def __str__(self):
        return self.text[:40]


class Appointment(models.Model):
    patient = models.ForeignKey(Patient, models.CASCADE, related_name="appointments")
    begins = models.DateTimeField()
    minutes = models.PositiveSmallIntegerField(default=15)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["begins"], name="one_patient_at_a_time")]

    def __str__(self):
        return f"{self.patient} {self.begins:%Y-%m-%d %H:%M}"


class Invoice(models.Model):
    patient = models.ForeignKey(Patient, models.PROTECT, related_name="invoices")
    net = models.DecimalField(max_digits=10, decimal_places=2)
    tax = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    total = models.GeneratedField(
        expression=models.F("net") + models.F("tax"),
        output_field=models.DecimalField(max_digits=11, decimal_places=2),
        db_persist=True,
    )
    paid = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(net__gte=0), name="nobody_is_paid_for_coming")]

    def __str__(self):
        return f"{self.total}"
