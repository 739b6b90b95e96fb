"""The sizes and times of a replica. All members of a cluster have the same sizes."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Bounds first, then times in ticks."""

    slots: int = 4096
    """Ops that the journal holds. At least ``2 * checkpoint_interval + 2 * pipeline_max``."""
    checkpoint_interval: int = 1024
    """Ops from one checkpoint to the next; more than ``pipeline_max``."""
    pipeline_max: int = 8
    """Ops that are proposed and not committed; also entries that are being written at once."""
    pipeline_eager: int = 2
    """Ops in the pipeline up to which a request is proposed at once. Beyond, requests gather, and share one."""
    queue_max: int = 1024
    """Requests that wait for a place in the pipeline."""
    batch_max: int = 256
    """Requests of one op."""
    body_max: int = 4 << 20
    """Bytes of the requests of one op."""
    reads_max: int = 1024
    """Reads that wait for a probe."""
    cached_max: int = 64
    """Entries kept in memory below what is committed, to help others without reading them."""
    repairs_max: int = 16
    """Entries asked for at once."""
    headers_max: int = 64
    """Headers of one message."""
    chunk_size: int = 256 << 10
    """Bytes of a snapshot in one message."""
    learners_max: int = 8
    """Members to be that a primary remembers."""

    heartbeat: int = 5
    suspect: int = 24
    """Silence after which a backup suspects its primary; up to half as much again is drawn on top."""
    prepare_retry: int = 10
    abdicate: int = 60
    deaf: int = 160
    """Silence of all others, pings included, after which a primary falls silent, too."""
    exit_resend: int = 8
    exit_window: int = 48
    view_change: int = 40
    join_resend: int = 10
    getview_resend: int = 10
    repair: int = 6
    ping: int = 50
    sync_retry: int = 10

    def check(self) -> None:
        """Raise ValueError for sizes with which the protocol would not be safe."""
        if not 1 <= self.pipeline_eager <= self.pipeline_max < self.checkpoint_interval:
            raise ValueError("1 <= pipeline_eager <= pipeline_max < checkpoint_interval must hold")
        # An op's slot is used again only when a replication quorum has a checkpoint above it, and those who are one
        # checkpoint behind still find the ops they lack (docs/internals/vsr.md, "Retention").
        if self.slots < 2 * self.checkpoint_interval + 2 * self.pipeline_max:
            raise ValueError("slots must be at least 2 * checkpoint_interval + 2 * pipeline_max")
        if self.pipeline_max + 2 > self.headers_max:
            raise ValueError("headers_max must have room for a pipeline")
