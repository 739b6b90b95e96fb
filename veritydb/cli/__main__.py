"""``python -m veritydb.cli`` is ``veritydb``."""

from __future__ import annotations

from veritydb.cli.app import main

main()
