"""Making durable what has been written: a file's bytes, the names in a folder.

For what is written once, beside the log. The log has system calls of its own (:mod:`veritydb.log.files`), so that tests
can make any of them fail.
"""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make everything in a folder durable. Raises OSError."""
    for root, _, files in os.walk(folder):
        for name in files:
            sync(Path(root, name))
        sync(Path(root))
