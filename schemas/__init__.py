"""The Cap'n Proto definitions of every byte that leaves memory, loaded.

``record`` defines log records, ``files`` the small files and the row around them. The ``.capnp`` files are the
documentation; nothing here adds to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import capnp

_capnp: Any = capnp  # its stubs are generated and do not know the parser
_HERE = Path(__file__).resolve().parent
# Their own parser: the import hook that pycapnp offers is process-wide, and a library has no business there.
_parser: Any = _capnp.SchemaParser()

record: Any = _parser.load(str(_HERE / "record.capnp"))
files: Any = _parser.load(str(_HERE / "files.capnp"))

__all__ = ["files", "record"]
