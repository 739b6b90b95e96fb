"""Follows a database and says each offset it is told of: ``follows.py PATH CURSOR NOTIFY``, run by tests.support.child.

Begins behind CURSOR, and says a cursor in front of what it says next.
"""

import sys
from pathlib import Path

from tests.support import child
from tests.support.life import RAW
from veritydb.subscriptions import Resync, TableUpdate, open_feed

path, cursor, notify = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with (
    open_feed(path, key=RAW, notify=None if notify == "any" else notify, ring_rows=16) as feed,
    feed.subscribe(since=cursor, images=True, buffer=5) as updates,
):
    child.say("following")
    for update in updates:
        assert not isinstance(update, Resync)
        if isinstance(update, TableUpdate):
            image = update.after or update.before
            child.say(f"told {update.cursor} {update.table} {update.action} {sorted(image.items())!r}")
