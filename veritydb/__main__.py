"""``python -m veritydb``: the command line (:mod:`veritydb.cli`)."""

from __future__ import annotations

from veritydb.cli import main

if __name__ == "__main__":
    main()
