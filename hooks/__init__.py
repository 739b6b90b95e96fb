"""SQLite callbacks in, events out.

::

    capture      Capture: one connection's hooks and witnesses; what the session drives
     ├── rows         the preupdate hook, row by row
     ├── witness      virtual tables through which SQLite tells of savepoints and of the coming commit
     ├── late         rows that the hook cannot see, read before the commit
     ├── sequences    sqlite_sequence, which moves without any event
     ├── statistics   sqlite_stat*, of which not all changes are reported
     ├── catalog      what must be known of the schema, since the hook may not ask
     ├── buffer       ChangeBuffer: the transaction so far, able to forget its end (pure)
     └── images       tables, and the mending of row images (pure)
"""
