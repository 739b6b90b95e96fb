"""The shell around a replica: what a node, and a client of a group, are in the real world.

================  ===================================================================================================
``config``        ``node.toml``, ``client.toml``
``naming``        the id of a stream that people call by a name
``clients``       a client's folder: certificate, key, where the nodes are
``founding``      what a cluster begins with: id, secret, certificates, empty disks
``certificates``  a cluster's own authority, for mutual TLS
``rights``        ``rights.toml``: who may do what with which stream
``admission``     whether a node listens to a client's message
``listening``     a node's door: TLS, and a count of who did not get in
``dialling``      a node's connections to its peers
``frames``        one connection of a node: messages in, messages out
``logs``          what a node says while it runs, as text or JSON
``status``        how a node is, and what of that is wrong (pure)
``observing``     what a node observes of itself and of the others
``asking``        asking nodes how they are
``overview``      a group at a glance: what its members said, put together (pure)
``watching``      looking at a group again and again
``local``         the members whose folders are on this machine, as processes
``metrics``       a node's metrics, as Prometheus reads them
``health``        the same over HTTP
``aligned``       files that are read and written past the page cache
``disk``          :class:`Disk`: a member's storage in one folder
``disk_thread``   the same, driven by a thread of its own
``disk_turns``    what is written in one turn of the event loop, and whether the loop waits for it
``files``         small files, written whole
``records``       the records of all streams that a node has, for those who follow
``mending``       a stream's log that has lost something
``keeping``       the same, driven by a thread of its own
``node``          :class:`Node`: the process that drives a replica
``directory``     which streams there are, and which group has which
``changing``      other members, and a member's new disk
``session``       :class:`Session`: a client's side, one request at a time
================  ===================================================================================================
"""
