"""``python -m veritydb``: the command line, and ``run``, which runs a script with ``sqlite3`` replaced.

``run`` is here and not among the commands, because all arguments after the script are the script's own.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

_USAGE = "usage: python -m veritydb run script.py [arguments]\n\nRun a program with sqlite3 replaced by VerityDB."


def main() -> int:
    """Run a script, or hand over to the command line."""
    if sys.argv[1:2] != ["run"]:
        from veritydb.cli import main as command_line

        return command_line() or 0
    arguments = sys.argv[2:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    script = Path(arguments[0])
    if not script.exists():
        print(f"veritydb run: there is no {script}", file=sys.stderr)
        return 2
    # What Python itself does for a script: its own arguments, and its folder first in the path.
    sys.argv = arguments
    sys.path[0] = str(script.resolve().parent)
    from veritydb.installing import install

    with install():
        runpy.run_path(str(script), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
