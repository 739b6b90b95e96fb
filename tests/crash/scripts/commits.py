"""Commits transactions first, first + 1, … and says so: ``commits.py PATH FIRST COUNT``, run by tests.support.child.

Every third is a bare statement, every third has several, every third has more rows than are kept in memory.
"""

import sys
from pathlib import Path

import veritydb
from tests.crash import ledger
from tests.crash.small import make_small
from tests.support import child
from tests.support.life import RAW

make_small()
path, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
db = veritydb.connect(f"file:{path}?vfs={child.CIPHER_VFS}", uri=True, key=RAW, isolation_level=None, timeout=60)
# Few pages, so that checkpoints, and with them writes to the database file, come soon.
db.execute("PRAGMA wal_autocheckpoint = 10").fetchall()
for number in range(first, first + count):
    child.attempted(number)
    if number % 3 == 0:
        ledger.single(db, number)
    else:
        ledger.several(db, number, 3 if number % 3 == 1 else 40)
    child.acknowledged(number)
db.close()
