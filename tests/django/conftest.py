"""A Django project for the tests, and a new database in it for each of them.

Settings are a process's; what a test has of its own is the file that the connection ``default`` opens.
"""

# No __init__.py here: pytest puts tests/ into the path, and a package "django" there would hide Django.

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

ACTOR = "the ward's own"

if not settings.configured:
    settings.configure(
        DATABASES={"default": {"ENGINE": "veritydb.django", "NAME": "unused.db", "OPTIONS": {"actor": ACTOR}}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.admin",
            "tests.django.ward",
        ],
        MIDDLEWARE=[
            "veritydb.django.middleware.ActorMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
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
        ],
        ROOT_URLCONF="tests.django.ward.urls",
        SECRET_KEY="for tests",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the project's tables, made once by the migrations; tests get copies."""
    from django.core.management import call_command
    from django.db import connection

    path = tmp_path_factory.mktemp("ward") / "ward.db"
    point(connection, path)
    call_command("migrate", run_syncdb=True, verbosity=0)
    connection.close()
    return path


@pytest.fixture
def database(filled: Path, tmp_path: Path) -> Iterator[Path]:
    """A database with tables and without rows of the ward. It is checked against its log when the test is over."""
    from django.db import connection

    from tests.django.support import check
    from veritydb.django import creation

    path = tmp_path / "ward.db"
    creation._copy(str(filled), str(path))
    point(connection, path)
    yield path
    connection.close()
    check(path)


def point(connection: Any, path: Path, **options: Any) -> None:
    """Let ``connection`` open ``path`` from now on."""
    connection.close()
    connection.settings_dict["NAME"] = str(path)
    connection.settings_dict["OPTIONS"] = {"actor": ACTOR, **options}


@pytest.fixture
def spawning() -> Iterator[None]:
    """Processes are started as Windows, macOS and Python 3.14 start them."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def queries() -> Iterator[list[str]]:
    """Collect the statements that run."""
    from django.db import connection

    found: list[str] = []

    def collect(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(collect):
        yield found
