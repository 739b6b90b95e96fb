"""What is refused, and the words it is refused with.

A statement that cannot be logged exactly is refused before it changes anything. This is the one list of those;
``docs/reference/statements.md`` is its readable form, and a test compares the two.
"""

from __future__ import annotations

import os

RESERVED_PREFIX = "_veritydb_"

SETTINGS = frozenset({"user_version", "application_id", "auto_vacuum"})
"""Pragmas whose new value is logged."""

PHYSICAL = frozenset({"incremental_vacuum", "wal_checkpoint"})
"""Pragmas that change bytes of the file and nothing that is logged."""

_KEYS = frozenset(
    {
        "key",
        "rekey",
        "hexkey",
        "hexrekey",
        "textkey",
        "textrekey",
        "cipher",
        "cipher_salt",
        "hmac_check",
        "kdf_iter",
        "legacy",
        "legacy_page_size",
        "fast_kdf_iter",
        "hmac_use",
        "hmac_pgno",
        "hmac_salt_mask",
        "kdf_algorithm",
        "hmac_algorithm",
        "plaintext_header_size",
        "mc_legacy_wal",
    }
)
_OF_A_FILE = SETTINGS | {"journal_mode", "encoding", "page_size", "schema_version", "incremental_vacuum"}
"""Pragmas that write into the database they name."""

_OFF = frozenset({"0", "off", "no", "false"})


def of_pragma(name: str, value: str | None, schema: str | None, *, encrypted: bool, in_memory: bool) -> str | None:
    """Return why ``PRAGMA name = value`` is refused, or None."""
    if value is None:
        return None
    if schema not in (None, "main", "temp") and name in _OF_A_FILE:
        return attached(schema)
    text = value.strip("'\"").lower()
    if name == "writable_schema" and text not in _OFF:  # SQLite also takes '1x' for yes.
        return "PRAGMA writable_schema changes the schema behind SQLite's back; use CREATE, ALTER and DROP"
    if name == "schema_version":
        return "PRAGMA schema_version is SQLite's own counter, and a wrong one corrupts databases; leave it to SQLite"
    if name in _KEYS:
        return f"PRAGMA {name} would change how the file is encrypted without its log; give key=… to connect()"
    if name == "journal_mode" and not in_memory and text != "wal":
        if schema == "temp":
            return None
        return f"PRAGMA journal_mode={value}: VerityDB keeps the file in WAL mode, so that readers never wait"
    if name == "temp_store" and encrypted and text != "memory" and not text.startswith("2"):
        return "PRAGMA temp_store: temporary files would hold rows in clear; an encrypted database keeps them in memory"
    if name == "page_size" and encrypted:
        return "PRAGMA page_size: the pages of an encrypted database have 4,096 bytes, as SQLCipher expects them"
    if name in ("temp_store_directory", "data_store_directory"):
        return f"PRAGMA {name} is deprecated and process-wide; set SQLITE_TMPDIR"
    return None


def attached(schema: str | None) -> str:
    """Return why writing into an attached database is refused."""
    return f"database {schema} is attached: what is written there is not in this log; open it by its own connection"


def has_log(filename: str | None) -> bool:
    """Whether the database at ``filename`` has a log, through which alone it may be written."""
    return bool(filename) and os.path.isdir(os.path.realpath(filename or "") + "-log")


def meta_table(name: str) -> str:
    """Return why names of ours are refused."""
    return f"{name}: names that begin with {RESERVED_PREFIX} are VerityDB's own"


def reserved(name: str) -> bool:
    """Whether ``name`` is one of ours."""
    return name.lower().startswith(RESERVED_PREFIX)


def unplanned() -> str:
    """Return why a statement that turns out to change the schema, unannounced, is refused."""
    return (
        "the statement would change the schema from within (as SELECT … FROM pragma_optimize or an index that FTS3 "
        "begins does), which cannot be logged; use PRAGMA optimize, and FTS5"
    )


def of_attach(filename: str | None) -> str | None:
    """ATTACH is allowed: reading is harmless, and writing is refused where it is tried."""
    return None
