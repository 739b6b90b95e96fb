"""Commits until the disk is full, and goes on trying: ``full.py PATH LIMIT``, run by tests.support.child.

The disk is full because no file may grow beyond LIMIT bytes (RLIMIT_FSIZE): the kernel then writes what fits, and says
EFBIG at the next attempt. At the end there is room again, and one more transaction goes through.
"""

import contextlib
import json
import resource
import signal
import sys
from pathlib import Path

import veritydb
from tests.crash import ledger
from tests.support import child
from tests.support.life import RAW

path, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
db = None
refused = []
number = 0


def attempt(commit, number: int) -> None:
    global db
    child.attempted(number)
    try:
        if db is None:
            db = veritydb.connect(path, key=RAW, isolation_level=None)
        commit(db, number)
    except veritydb.OutcomeUnknown:
        pass
    except veritydb.Error as error:
        refused.append(number)
        assert "rolled back" in str(error) or "full" in str(error) or "I/O" in str(error) or "nothing" in str(error), error
    else:
        child.acknowledged(number)


resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
while len(refused) < 30:
    number += 1
    attempt(ledger.single if number % 3 else lambda db, n: ledger.several(db, n, 200), number)
    if refused and number % 5 == 0 and db is not None:
        with contextlib.suppress(veritydb.Error):
            db.close()
        db = None
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
if db is not None:
    with contextlib.suppress(veritydb.Error):
        db.close()
    db = None
attempt(ledger.single, number + 1)
assert number + 1 not in refused
db.close()
child.say(json.dumps({"refused": refused}))
