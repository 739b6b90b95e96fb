"""Works on what a consumer is handed, and says when it has: ``works.py PATH BATCH [STOP]``, run by tests.support.child.

Ends when there is nothing left to do; between work and ack for the STOP-th time it waits to be killed.
"""

import sys
from pathlib import Path

import veritydb
from tests.support import child
from tests.support.life import RAW

path, batch, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
done = 0
db = veritydb.connect(path, key=RAW, timeout=60)
with db.consumer("billing", "visits", timeout=0.001, tries_max=1_000_000) as billing:
    child.say("working")
    while messages := billing.fetch(batch):
        for message in messages:
            with db:
                db.execute("INSERT INTO invoices(visit, try) VALUES (?, ?)", (message.update.row_id, message.tries))
                done += 1
                child.say("between")
                if done == stop:
                    sys.stdin.read()
                message.ack()
    if billing.lag().in_flight:
        child.say("not done")
    else:
        child.say("done")
db.close()
