"""A node's metrics, as Prometheus reads them.

What is a state is taken from the node's :class:`~veritydb.cluster.status.Status` when somebody asks; what happens often
(flushes, requests) is counted where it happens. No label has a stream, a client or anything else of which there may be
many. ``docs/reference/node.md`` lists all of it, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from veritydb.cluster.status import State, Status

PREFIX = "veritydb_node_"
_FLUSH_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_REQUEST_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Counts = Mapping[str, int]


class Metrics:
    """What a node counts, and how all of it is told."""

    def __init__(
        self,
        status: Callable[[], Status],
        events: Callable[[], Counts],
        dropped: Callable[[], Counts],
    ) -> None:
        """``events``: what happened, by name. ``dropped``: messages that were not heard, by the reason."""
        self._registry = registry = CollectorRegistry()
        registry.register(_FromStatus(status, events, dropped))
        ProcessCollector(namespace="veritydb_node", registry=registry)
        self._flush = Histogram(
            PREFIX + "flush_seconds", "Making writes durable.", buckets=_FLUSH_BUCKETS, registry=registry
        )
        self._request = Histogram(
            PREFIX + "request_seconds",
            "From a client's request to the answer, as primary.",
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )

    def flushed(self, seconds: float, writes: int) -> None:
        """Count one flush. Any thread may call this."""
        self._flush.observe(seconds)

    def answered(self, seconds: float) -> None:
        """Count one request that was answered."""
        self._request.observe(seconds)

    def render(self) -> bytes:
        """Return all of it as text."""
        return generate_latest(self._registry)

    content_type = CONTENT_TYPE_LATEST


class _FromStatus(Collector):
    """What is told of a status."""

    def __init__(
        self, status: Callable[[], Status], events: Callable[[], Counts], dropped: Callable[[], Counts]
    ) -> None:
        self._status = status
        self._events = events
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        seen = status.observed
        yield InfoMetricFamily(
            PREFIX.rstrip("_"),
            "Who this is.",
            {"cluster": seen.cluster, "member": str(seen.member), "version": seen.version},
        )
        for name, help_, value in (
            ("ready", "1 if the node does what the group counts on it for.", status.is_ready),
            ("primary", "1 if this node is the primary of its view.", seen.is_primary),
            ("epoch", "Which members are in office.", seen.epoch),
            ("view", "Who is primary.", seen.view),
            ("op", "The end of the log.", seen.op),
            ("commit_op", "What is committed and applied here.", seen.commit),
            ("group_commit_op", "What is committed, by all that was heard.", seen.commit_group),
            ("lag_ops", "Committed ops that are not applied here.", seen.lag),
            ("checkpoint_op", "The last checkpoint.", seen.checkpoint),
            ("journal_ops", "Ops since the checkpoint.", seen.journal_used),
            ("journal_size_ops", "How many there may be.", seen.journal_size),
            ("streams", "Streams of the group.", seen.streams),
            ("sessions", "Sessions that the group remembers.", seen.sessions),
            ("clients", "Sessions that are connected here.", seen.clients),
            ("connections", "Connections, other members' with them.", seen.connections),
            ("records_missing_streams", "Streams of which records are missing here.", seen.records_missing),
            ("records_waiting", "Ops whose records wait to be kept.", seen.records_waiting),
            ("disk_free_bytes", "Free where the data is.", seen.disk_free),
            ("disk_size_bytes", "Size of the file system where the data is.", seen.disk_size),
            ("uptime_seconds", "Since the node was started.", seen.uptime),
        ):
            yield GaugeMetricFamily(PREFIX + name, help_, float(value))
        yield from _of_states(status)
        yield from _of_peers(status)
        for name, help_, label, counts in (
            ("events", "What happened.", "event", self._events()),
            ("dropped_messages", "What arrived and was not heard.", "reason", self._dropped()),
        ):
            family = CounterMetricFamily(PREFIX + name, help_, labels=[label])
            for what, count in sorted(counts.items()):
                family.add_metric([what], count)
            yield family


def _of_states(status: Status) -> Iterator[Metric]:
    found = {degraded.state for degraded in status.degraded}
    family = GaugeMetricFamily(PREFIX + "degraded", "1 for each state the node is in.", labels=["state"])
    for state in State:
        family.add_metric([state.label], float(state in found))
    yield family


def _of_peers(status: Status) -> Iterator[Metric]:
    heard = GaugeMetricFamily(PREFIX + "peer_heard_seconds", "How long ago a member was heard.", labels=["peer"])
    clock = GaugeMetricFamily(
        PREFIX + "peer_clock_seconds", "By how much a member's clock is before ours.", labels=["peer"]
    )
    for member, peer in sorted(status.observed.peers.items()):
        if peer.heard_seconds is not None:
            heard.add_metric([str(member)], peer.heard_seconds)
        if peer.clock_seconds is not None:
            clock.add_metric([str(member)], peer.clock_seconds)
    yield heard
    yield clock
