"""What is larger than memory: ``large.py WHAT PATH SIZE``, run by tests.support.child.

``commit`` writes one transaction of SIZE rows, ``redo``, ``rebuild`` and ``verify`` read it back; ``fill`` writes
transactions until the log has SIZE bytes. Says the most memory that it ever had.
"""

import resource
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import veritydb
from tests.support import child
from tests.support.life import RAW
from veritydb.replay.rebuilding import rebuild
from veritydb.verify import verify

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
elif what == "fill":
    db = veritydb.connect(path, key=RAW)
    with db:
        db.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, body BLOB)")
    log = path.with_name(f"{path.name}-log")
    rest = bytes(range(256)) * 16
    for number in count(1):
        with db:
            # Rows come and go: the log is many times what is left in the end.
            db.execute("DELETE FROM pages")
            first = number * 1_000_000
            bodies = ((first + n, (first + n).to_bytes(8, "big") + rest) for n in range(2_000))
            db.executemany("INSERT INTO pages VALUES (?, ?)", bodies)
        if number % 2 == 0 and sum(file.stat().st_size for file in log.glob("*.seg")) >= rows:
            break
    db.close()
elif what == "redo":
    db = veritydb.connect(path, key=RAW)
    assert db.execute("SELECT count(*), sum(id) FROM readings").fetchall() == [(rows, rows * (rows - 1) // 2)]
    db.close()
elif what == "verify":
    assert verify(path, key=RAW).ok
else:
    rebuild(path, path.with_name(f"{path.name}.rebuilt-1"), key=RAW)
# On Linux getrusage() also counts what the process that started this one had in memory.
status = Path("/proc/self/status")
if status.exists():
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    most = int(line.split()[1]) * 1024
else:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
child.say(f"most {most}")
