"""The backend over a cluster, for Django's own suite: each database file is a copy of a stream named like the file.

A test database of VerityDB's backend leaves the project's cluster (:mod:`veritydb.django.creation`), so that tests
write nothing there. This one goes to the cluster of ``CONFORMANCE_CLUSTER`` all the same, with streams of its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from veritydb.django import base


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose commits are agreed by the nodes of a cluster."""

    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        name = os.fspath(params["database"])
        if not self.is_in_memory_db():
            stream = os.environ.get("CONFORMANCE_PREFIX", "") + Path(name).stem
            params |= {"cluster": os.environ["CONFORMANCE_CLUSTER"], "stream": stream}
        return params
