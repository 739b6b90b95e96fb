from django.contrib import admin
from django.urls import path

from clinic import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("patients/<int:pk>/", views.patient, name="patient"),
    path("patients/<int:pk>/discharge/", views.discharge, name="discharge"),
]
