"""A node whose disk can be made slow and whose clock can be made to jump, while it runs; all else is as it is.

``python -m tests.chaos.node FOLDER run --config …``: what ``veritydb node`` is told follows the folder. In it,
``slow`` holds the seconds that every sync takes longer, and ``clock`` the seconds by which the wall clock is wrong.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path


def spoil(folder: Path) -> None:
    """Have this process's syncs and its clock do what the folder says."""

    def told(name: str) -> float:
        try:
            return float((folder / name).read_text())
        except (OSError, ValueError):
            return 0.0

    def slowed(sync: Callable[[int], None]) -> Callable[[int], None]:
        def slow(fd: int) -> None:
            sync(fd)
            time.sleep(told("slow"))

        return slow

    os.fsync, os.fdatasync = slowed(os.fsync), slowed(os.fdatasync)
    clock, clock_ns = time.time, time.time_ns
    time.time = lambda: clock() + told("clock")
    time.time_ns = lambda: clock_ns() + int(told("clock") * 1e9)


def main() -> None:
    spoil(Path(sys.argv.pop(1)))
    from veritydb import cli  # Not before: modules take the functions above as they find them.

    sys.argv = ["veritydb", "node", *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
