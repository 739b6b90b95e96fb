"""Where tests put what they make."""

from __future__ import annotations

import os


def in_memory() -> str | None:
    """Return a folder whose files need no disk, for tests that make many databases; None if there is none.

    Waiting for a disk that others use too is what makes such tests slow, and durability is what crash tests are about.
    """
    folder = "/dev/shm"
    return folder if os.path.isdir(folder) and os.access(folder, os.W_OK) else None
