"""Test databases. Each is a file with its log, or in memory with its log there; both parts come and go together.

A project whose database is a file is tested on a file beside it, ``test_clinic.db``, so that what the tests do is
logged as it will be. ``TEST: {"NAME": ":memory:"}`` asks for Django's usual place; so does a database without a file.

A test database is of this machine alone. The stream of a cluster that the project's database is a copy of would be the
test database's, too, with all that the tests write and delete.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import creation

from veritydb import applied
from veritydb.adopt import adopt
from veritydb.streams import log_folder

_SHARED = ("cluster", "stream", "consistency")
"""The options with which a database is shared."""


class DatabaseCreation(creation.DatabaseCreation):
    """Makes, copies and removes test databases."""

    _left: dict[str, Any] | None = None
    """The options of the project's own database, while a test database is in its place."""

    def create_test_db(
        self, verbosity: int = 1, autoclobber: bool = False, serialize: bool = True, keepdb: bool = False
    ) -> str:
        """Make the test database, which is no copy of a cluster's stream, and point the connection at it."""
        self._leave_cluster()
        name: str = super().create_test_db(verbosity, autoclobber, serialize, keepdb)
        return name

    def destroy_test_db(
        self,
        old_database_name: str | None = None,
        verbosity: int = 1,
        keepdb: bool = False,
        suffix: str | None = None,
    ) -> None:
        """Remove the test database, or a worker's copy of it, and point the connection at the project's own."""
        super().destroy_test_db(old_database_name, verbosity, keepdb, suffix)
        if old_database_name is not None and self._left is not None:
            self.connection.settings_dict["OPTIONS"], self._left = self._left, None

    def set_as_test_mirror(self, primary_settings_dict: dict[str, Any]) -> None:
        """Point the connection at the test database of another alias."""
        self._leave_cluster()
        super().set_as_test_mirror(primary_settings_dict)

    def _leave_cluster(self) -> None:
        settings = self.connection.settings_dict
        self.connection.close()
        if settings["OPTIONS"].get("cluster") is not False:
            self._left = settings["OPTIONS"]
        options = {name: value for name, value in settings["OPTIONS"].items() if name not in _SHARED}
        settings["OPTIONS"] = {**options, "cluster": False}  # Not even that of the environment.

    def _get_test_db_name(self) -> str:
        settings = self.connection.settings_dict
        asked = settings["TEST"]["NAME"]
        if not asked and settings["NAME"] and not self.is_in_memory_db(settings["NAME"]):
            name = os.fspath(settings["NAME"])
            if not name.startswith("file:"):
                return str(Path(name).with_name(f"test_{Path(name).name}"))
        return super()._get_test_db_name()

    def _create_test_db(self, verbosity: int, autoclobber: bool, keepdb: bool = False) -> str:
        name: str = super()._create_test_db(verbosity, autoclobber, keepdb)
        # Django has removed the file, and without its log it would not come back empty: it would be rebuilt.
        if not keepdb and not self.is_in_memory_db(name):
            _remove(name)
        return name

    def get_test_db_clone_settings(self, suffix: str) -> dict[str, Any]:
        """Return the settings of a copy for a parallel worker."""
        if self._clones_through_a_file():
            return {**self.connection.settings_dict, "NAME": f"{self.connection.alias}_{suffix}.sqlite3"}
        settings: dict[str, Any] = super().get_test_db_clone_settings(suffix)
        return settings

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:
        settings = self.connection.settings_dict
        source, target = settings["NAME"], self.get_test_db_clone_settings(suffix)["NAME"]
        if self._clones_through_a_file():
            self._copy_memory(target)
        elif not self.is_in_memory_db(source):
            if os.path.exists(target):
                if keepdb:
                    return
                if verbosity >= 1:
                    shown = self._get_database_display_str(verbosity, target)
                    self.log(f"Destroying old test database for alias {shown}...")
            try:
                _remove(target)
                _copy(source, target)
            except OSError as error:
                self.log(f"Got an error cloning the test database: {error}")
                sys.exit(2)
        # A forked worker has its copy of what is in memory already.

    def _destroy_test_db(self, test_database_name: str, verbosity: int) -> None:
        if test_database_name and not self.is_in_memory_db(test_database_name):
            _remove(test_database_name)

    def setup_worker_connection(self, _worker_id: int) -> None:
        """Point this process's connection at the copy that is its own."""
        settings = self.get_test_db_clone_settings(str(_worker_id))
        self.connection.settings_dict.update(settings)
        self.connection.close()

    def _clones_through_a_file(self) -> bool:
        # A worker that is not forked sees nothing of the parent's memory, so its copy is a file.
        in_memory = self.is_in_memory_db(self.connection.settings_dict["NAME"])
        return in_memory and multiprocessing.get_start_method() != "fork"

    def _copy_memory(self, target: str) -> None:
        _remove(target)
        self.connection.ensure_connection()
        with closing(sqlite3.connect(target)) as plain:
            self.connection.connection.backup(plain)
            plain.execute(f"DROP TABLE IF EXISTS {applied.TABLE}")
            plain.commit()
        key = self.connection.get_connection_params().get("key")
        adopt(target, key=key, register="veritydb.django:register", reason="the copy of a test database")


def _remove(name: str) -> None:
    """Remove a database whole: file, log, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{name}{suffix}").unlink(missing_ok=True)
    shutil.rmtree(log_folder(name), ignore_errors=True)


def _copy(source: str, target: str) -> None:
    """Copy a database that nobody has open. File and log agree, and so do their copies."""
    shutil.copytree(log_folder(source), log_folder(target))
    for suffix in ("-wal", ""):
        if os.path.exists(f"{source}{suffix}"):
            shutil.copy(f"{source}{suffix}", f"{target}{suffix}")
