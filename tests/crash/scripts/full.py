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
TRIES = 150
db = None
refused = []


def attempt(number: int) -> None:
    child.attempted(number)
    try:
        if number % 3:
            ledger.single(db, number)
        else:
            ledger.several(db, number, 200)
    except veritydb.OutcomeUnknown:
        close()  # As its documentation asks for.
    except veritydb.OperationalError:
        refused.append(number)
    else:
        child.acknowledged(number)


def opened() -> bool:
    global db
    if db is None:
        with contextlib.suppress(veritydb.OperationalError):
            db = veritydb.connect(path, key=RAW, isolation_level=None)
    return db is not None


def close() -> None:
    global db
    if db is not None:
        db.close()
    db = None


resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
for number in range(1, TRIES):
    if opened():
        attempt(number)
    if number % 20 == 0:
        close()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
close()
assert opened()
attempt(TRIES)
close()
child.say(json.dumps({"refused": refused}))
