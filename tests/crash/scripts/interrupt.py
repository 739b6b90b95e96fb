"""Interrupts its own commits at every mark: ``interrupt.py PATH SIGNAL``, run by tests.support.child.

Says for each transaction, as JSON, at which mark it was interrupted and what the program was told then.
"""

import json
import os
import signal
import sys
from pathlib import Path

import veritydb
from tests.crash import ledger
from tests.crash.small import make_small
from tests.support import child
from tests.support.life import RAW

COUNT_MAX = 500


class Interrupted(BaseException):
    """What the handler raises, as the time-outs of web servers do."""


def interrupt(number: int, frame: object) -> None:
    raise Interrupted(number)


make_small()
path, name = Path(sys.argv[1]), sys.argv[2]
os.environ["CRASH_BY"] = name
signal.signal(getattr(signal, f"SIG{name}"), interrupt)
child.arm(f"sync:{1 << 60}")  # The marks have to be there before a connection takes hold of what they wrap.
db = veritydb.connect(f"file:{path}?vfs={child.CIPHER_VFS}", uri=True, key=RAW, isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint = 20").fetchall()
commits = {"single": ledger.single, "several": ledger.several, "large": lambda db, n: ledger.several(db, n, 20)}
number = 0
for point in child.POINTS:
    for kind, commit in commits.items():
        # Checkpoints come when they come, so their mark may be met by a later transaction; the others end by
        # themselves.
        for count in range(1, COUNT_MAX):
            number += 1
            db.actor = str(number)
            child.arm(f"{point}:{count}")
            case = {"number": number, "at": f"{point}:{count}", "kind": kind}
            try:
                commit(db, number)
            except Interrupted as stop:
                case |= {"raised": "Interrupted", "committed_offset": getattr(stop, "committed_offset", None)}
            except veritydb.Error as error:
                case |= {"raised": repr(error), "committed_offset": getattr(error, "committed_offset", None)}
            else:
                case |= {"raised": None, "committed_offset": db.last_offset}
            case["met"] = child.met()
            case["open"] = db.in_transaction
            child.say(json.dumps(case))
            if not case["met"] and (point != "checkpoint" or count > 3):
                break
db.close()
