"""One of several that write one database: ``contend.py PATH WORKER ON_MISSING [HARD]``, run by tests.support.child.

For each line of standard input, a number, it commits so many transactions and says ``done``. A file that was replaced
under its connection is opened again, as the error asks for. HARD: also after errors of SQLite itself, from whose hands
the file was taken.
"""

import sys
from pathlib import Path

import veritydb
from tests.crash import ledger
from tests.support import child
from tests.support.life import RAW

path, worker, on_missing = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
EXPECTED = (veritydb.LogMismatch, veritydb.OperationalError) if sys.argv[4:] else (veritydb.LogMismatch,)
TRIES_MAX = 100


def connect() -> veritydb.Connection:
    db = veritydb.connect(
        f"file:{path}?vfs={child.CIPHER_VFS}",
        uri=True,
        key=RAW,
        isolation_level=None,
        timeout=child.TIMEOUT,
        actor=f"worker {worker}",
        on_missing=on_missing,
    )
    try:
        ledger.make_if_needed(db)
    except BaseException:
        db.close()
        raise
    return db


db = None
number = worker * 1_000_000
for line in sys.stdin:
    for _ in range(int(line)):
        number += 1
        child.attempted(number)
        for _ in range(TRIES_MAX):
            try:
                if db is None:
                    db = connect()
                if number % 2:
                    ledger.single(db, number)
                else:
                    ledger.several(db, number)
                break
            except EXPECTED as error:
                last = error
                if db is not None:
                    db.close()
                db = None
                if isinstance(error, veritydb.OutcomeUnknown):
                    break
        else:
            raise last
        if db is not None:
            child.say(f"acknowledged {number} {db.last_offset}")
    child.say("done")
if db is not None:
    db.close()
