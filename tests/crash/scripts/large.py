"""One transaction of very many rows, then what reads it: ``large.py PATH ROWS``, run by tests.support.child.

``commit`` writes it; ``redo`` and ``rebuild`` read it back from the log. Says the most memory it ever had.
"""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import veritydb
from tests.support import child
from tests.support.life import RAW
from veritydb.replay.rebuilding import rebuild

what, path, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])


def made() -> Iterator[tuple[int, str, float, bytes]]:
    for number in range(rows):
        yield number, f"row {number} of one transaction", number / 7, number.to_bytes(16, "big")


if what == "commit":
    db = veritydb.connect(path, key=RAW)
    with db:
        db.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY, label TEXT, value REAL, raw BLOB)")
    with db:
        db.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", made())
    assert db.last_offset == 1
    db.close()
elif what == "redo":
    db = veritydb.connect(path, key=RAW)
    assert db.execute("SELECT count(*), sum(id) FROM readings").fetchall() == [(rows, rows * (rows - 1) // 2)]
    db.close()
else:
    rebuild(path, path.with_name(f"{path.name}.rebuilt-1"), key=RAW)
# In kilobytes on Linux, in bytes on macOS.
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
child.say(f"most {most if sys.platform == 'darwin' else most * 1024}")
