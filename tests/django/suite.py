"""The settings, and the runner, that Django's own test suite is given by :mod:`tests.django.conformance`.

Everything comes in through the environment: the suite is a process of its own, in a folder of its own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.test.runner import DiscoverRunner

KEY = "hex:" + bytes(range(32)).hex()
"""Of the database "default", which is encrypted; "other" is not."""

_FOLDER = Path(os.environ.get("CONFORMANCE_FOLDER", ""))
_ENGINE = os.environ.get("CONFORMANCE_ENGINE", "veritydb.django")


def _database(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "ENGINE": _ENGINE,
        "NAME": str(_FOLDER / f"{name}.db"),
        "TEST": {"NAME": str(_FOLDER / f"test_{name}.db")},
        "OPTIONS": options,
    }


DATABASES = {
    "default": _database("default", {} if _ENGINE == "django.db.backends.sqlite3" else {"key": KEY}),
    "other": _database("other", {}),
}
SECRET_KEY = "for tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "tests.django.suite.Runner"


class Runner(DiscoverRunner):
    """Writes down what became of each test."""

    def suite_result(self, suite: Any, result: Any, **kwargs: Any) -> int:
        """Write ``outcome.json``, and answer as Django's runner does."""
        failed = {test.id(): text for test, text in [*result.failures, *result.errors]}
        failed.update({test.id(): "unexpected success" for test in result.unexpectedSuccesses})
        outcome = {
            "count": result.testsRun,
            "failed": failed,
            "skipped": {test.id(): reason for test, reason in result.skipped},
        }
        (_FOLDER / "outcome.json").write_text(json.dumps(outcome))
        return int(super().suite_result(suite, result, **kwargs))
