"""A stream that NATS JetStream keeps, for organisations that run it already.

The log beside the database is the same copy as with a cluster of our own nodes (:mod:`veritydb.cluster.group_log`), and
asks the same questions; here is who answers them. ``pip install 'veritydb[nats]'``.

==============  =====================================================================================================
``config``      :class:`NatsConfig`: where the servers are, who one is, and what a commit promises
``promises``    whether a stream and its servers can keep that promise, as far as it can be seen
``loop``        the thread in which the client library's event loop runs, for callers that wait
``messages``    what a stream of JetStream holds, by sequence
``link``        one connection to NATS: questions that are repeated until they are answered
``sequencer``   :class:`NatsSequencer`: compare-and-append, resolving and reading one stream
==============  =====================================================================================================
"""

from __future__ import annotations

from veritydb.nats.config import NatsConfig

__all__ = ["NatsConfig"]
