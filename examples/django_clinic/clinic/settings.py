"""Settings of the clinic. What is VerityDB's: the engine with its options, and the first middleware."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("CLINIC_DATA", BASE_DIR))

DATABASES = {
    "default": {
        "ENGINE": "veritydb.django",
        "NAME": DATA_DIR / "clinic.db",
        "OPTIONS": {
            # An example's key. A real one is in a file that only the server may read: "key_file": "/etc/clinic/key".
            "key": os.environ.get("CLINIC_KEY", "correct horse battery staple"),
            "actor": "manage.py",  # Whoever acts when there is no request.
            "transaction_mode": "IMMEDIATE",
        },
    }
}
MIDDLEWARE = [
    "veritydb.django.middleware.ActorMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

SECRET_KEY = os.environ.get("CLINIC_SECRET", "only for trying it out")
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
INSTALLED_APPS = [
    "clinic",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
ROOT_URLCONF = "clinic.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "/admin/login/"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
