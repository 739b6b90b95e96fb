from __future__ import annotations

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth import authenticate, login
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.django.ward.models import Patient, Ward
from veritydb.django import acting


def look(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(Patient.objects.count()))


def admit(request: HttpRequest) -> HttpResponse:
    Patient.objects.create(name="Ada")
    return HttpResponse("admitted")


def admit_because(request: HttpRequest) -> HttpResponse:
    with acting(reason="emergency"):
        Patient.objects.create(name="Ada")
    return HttpResponse("admitted")


def build() -> None:
    Ward.objects.create(name="B")
    connection.close()  # The thread's own; no request ends in this thread.


async def admit_async(request: HttpRequest) -> HttpResponse:
    await Patient.objects.acreate(name="Ada")
    await sync_to_async(build, thread_sensitive=False)()
    return HttpResponse("admitted")


def enter(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.GET["name"], password="secret")
    login(request, user)
    return HttpResponse("entered")


urlpatterns = [
    path("look/", look),
    path("admit/", admit),
    path("admit-because/", admit_because),
    path("admit-async/", admit_async),
    path("enter/", enter),
    path("admin/", admin.site.urls),
]
