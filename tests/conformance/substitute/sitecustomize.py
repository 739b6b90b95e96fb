"""Puts VerityDB in the place of sqlite3 in every Python process that finds this module in its path."""

import veritydb

installed = veritydb.install()  # Kept, because it ends when it is forgotten.
installed.__enter__()
