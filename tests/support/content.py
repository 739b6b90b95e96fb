"""Everything a database file holds, as one value; written apart from :mod:`veritydb.replay`: each checks the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from veritydb import applied

if TYPE_CHECKING:
    import apsw

_HEADER = ("user_version", "application_id", "encoding", "auto_vacuum", "page_size")


def content(db: apsw.Connection, *, header: tuple[str, ...] = _HEADER) -> dict[str, Any]:
    """Return schema, header fields, and each stored row with its rowid, storage classes and bytes."""
    schema = sorted(
        db.execute(
            # ANALYZE makes its tables, empty or not, without a statement that says so.
            "SELECT type, name, tbl_name, sql FROM main.sqlite_schema"
            " WHERE tbl_name <> ? AND tbl_name NOT GLOB 'sqlite_stat?'",
            (applied.TABLE,),
        ).fetchall(),
        key=repr,
    )
    found: dict[str, Any] = {"schema": schema}
    for name in header:
        found[f"pragma {name}"] = db.pragma(name)
    stored = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')"
    for table, without_rowid in db.execute(stored).fetchall():
        if table in ("sqlite_schema", applied.TABLE):
            continue
        # In the tables that SQLite fills by itself rowids tell in which order it did so, and nothing reads them.
        kept_by_sqlite = table == "sqlite_sequence" or table.startswith("sqlite_stat")
        found[f"table {table}"] = rows(db, table, without_rowid=bool(without_rowid) or kept_by_sqlite)
    return {name: value for name, value in found.items() if value or not name.startswith("table sqlite_stat")}


def rows(db: apsw.Connection, table: str, *, without_rowid: bool = False) -> list[tuple[Any, ...]]:
    """Return the rows of ``table`` in a fixed order: rowid, then storage class and bytes of each column."""
    names = [name for (name,) in db.execute("SELECT name FROM pragma_table_xinfo(?)", (table,)).fetchall()]
    taken = {name.lower() for name in names}
    rowid = next((name for name in ("rowid", "oid", "_rowid_") if name not in taken), None)
    wanted = [] if without_rowid or rowid is None else [rowid]
    for name in map(quoted, names):
        wanted.append(f"typeof({name})")
        wanted.append(f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END")
    found: list[tuple[Any, ...]] = []
    # In slices, because a result has at most 2,000 columns. Each slice comes in the order of the b-tree.
    for start in range(0, len(wanted), 1_900):
        part = db.execute(f"SELECT {', '.join(wanted[start : start + 1_900])} FROM main.{quoted(table)}").fetchall()
        found = [a + b for a, b in zip(found, part, strict=True)] if found else part
    return sorted((tuple(map(_exact, row)) for row in found), key=repr)


def _exact(value: Any) -> Any:
    return value.hex() if isinstance(value, float) else value  # 0.0 == -0.0, but they are not the same bytes.


def quoted(name: str) -> str:
    """Return ``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def different(left: dict[str, Any], right: dict[str, Any]) -> str:
    """Say what differs, in few words; empty if nothing does."""
    lines = []
    for key in [*left, *(key for key in right if key not in left)]:
        a, b = left.get(key), right.get(key)
        if repr(a) != repr(b):
            if isinstance(a, list) and isinstance(b, list):
                a, b = [x for x in a if x not in b][:5], [x for x in b if x not in a][:5]
            lines.append(f"{key}: {a!r:.600} <> {b!r:.600}")
    return "\n".join(lines)
