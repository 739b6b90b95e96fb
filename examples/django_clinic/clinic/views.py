from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from clinic.models import Patient
from veritydb.django import acting


@login_required
def patient(request, pk):
    return render(request, "clinic/patient.html", {"patient": get_object_or_404(Patient, pk=pk)})


@login_required
@require_POST
def discharge(request, pk):
    found = get_object_or_404(Patient, pk=pk)
    # The middleware has said who; why is known here better than from the address.
    with acting(reason=f"discharge: {request.POST.get('why', '')}"), transaction.atomic():
        found.discharged = timezone.now()
        found.save(update_fields=["discharged"])
        found.appointments.filter(begins__gt=timezone.now()).delete()
    return redirect("patient", pk=pk)
