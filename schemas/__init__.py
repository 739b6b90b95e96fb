"""The Cap'n Proto definitions of every byte that leaves memory.

``record`` defines log records, ``files`` the small files and the row around them, ``kernel`` what a group of nodes is
asked and answers, ``superblock`` what a member of it knows of itself, ``vsr`` what members say to each other. The
``.capnp`` files are the documentation; nothing here adds to them.

They are loaded when they are first asked for: pycapnp, with the asyncio it brings, is a third of the time that
importing VerityDB would take, and a program that commits single rows never needs it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

record: Any
files: Any
kernel: Any
superblock: Any
vsr: Any

_HERE = Path(__file__).resolve().parent


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    loaded = globals()[name] = _parser().load(str(_HERE / f"{name}.capnp"))
    return loaded


@cache
def _parser() -> Any:
    # Its own: the import hook that pycapnp offers is process-wide, and a library has no business there.
    import capnp

    library: Any = capnp  # its stubs are generated and do not know the parser
    return library.SchemaParser()


__all__ = ["files", "kernel", "record", "superblock", "vsr"]
