"""What members and clients say to each other, as values.

The wire (:mod:`veritydb.vsr.wire`) makes bytes of them and back, checks checksum, authenticity and cluster before a
replica sees anything, and bounds every length. ``epoch`` and ``view`` are the sender's; ``src`` its member id.
Tuples, not dataclasses: a commit of three members makes a dozen of them, and a tuple costs a third.

===============  =====================  ===========================================================================
Request, Reply   client <-> primary     one command of a session, its result
Evicted          primary -> client      the session is unknown: register anew
Redirect         member -> client       who is primary, as far as this member knows
ReadRequest      client -> primary      what is the committed head of a stream, now?
ReadReply        primary -> client
Reconfigure(d)   people <-> primary     other members
FetchRecords     client -> any          records of a stream; the node answers from what it keeps, not the replica
FetchedRecords   any -> client
Denied           any -> client          a node does not let this client ask that; no replica saw it
AskStatus        client <-> any         how is this member? TellStatus, the answer: from the node, too
Prepare          primary -> all         an entry (the answer to GetPrepare is an Entry message, :class:`Repair`)
PrepareOk        member -> primary      the entry is durable here
Commit           primary -> all         heartbeat: what is committed; asks for an answer if it has a nonce
CommitAck        member -> primary      the answer: I am in your view
ExitView         member -> all          I want to leave this view
JoinView         member -> all          I have left all views below: my log's end, for the next primary to choose from
StartView        primary -> all         the view has started: its log's end; a backup tells it who asks
GetView          any -> any             tell me StartView
GetHeaders       any -> any             headers of a range of ops, and Headers, the answer
GetPrepare       any -> any             one entry by op and checksum, and Repair, the answer
GetSnapshot      any -> any             a piece of a snapshot, and SnapshotChunk, the answer
Ping, Pong       any <-> any            where I am
NewEpoch         any -> any             your epoch has ended: this is how
===============  =====================  ===========================================================================
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from veritydb.vsr.entry import Entry, Header


class Checkpoint(NamedTuple):
    """A state that a member has durably, without the ops that led to it."""

    op: int
    checksum: bytes
    """Of the header of that op."""
    root: bytes
    """Names the snapshot: BLAKE3 over its bytes, 16 bytes."""
    size: int
    """Bytes of the snapshot."""


class Request(NamedTuple):
    """One command of a client's session."""

    client: bytes
    """16 bytes, chosen by the client at random."""
    session: int
    """The op that registered it; 0 to register."""
    number: int
    """Rises by one with each request; 0 registers."""
    command: bytes
    """For the kernel."""
    view: int
    """The highest view that the client has heard of."""


class Reply(NamedTuple):
    """The result of a request that is committed."""

    client: bytes
    session: int
    number: int
    op: int
    result: bytes
    view: int


class Evicted(NamedTuple):
    """The session is not known, or ended."""

    client: bytes
    session: int
    view: int


class Redirect(NamedTuple):
    """Ask somebody else; nothing was done."""

    client: bytes
    number: int
    primary: int
    view: int


class ReadRequest(NamedTuple):
    """Where does a stream end, counting all that was committed before this was sent?"""

    client: bytes
    number: int
    stream: bytes
    """16 bytes."""


class ReadReply(NamedTuple):
    """At least there."""

    client: bytes
    number: int
    op: int
    """The op whose state was read."""
    known: bool
    """Whether there is such a stream."""
    next_offset: int
    hash: bytes
    """32 bytes."""
    view: int


class Reconfigure(NamedTuple):
    """Let these be the members."""

    client: bytes
    number: int
    members: tuple[int, ...]
    epoch: int
    """In which this is asked for. In another one it is an old message, and the members it names may be so, too."""


class Reconfigured(NamedTuple):
    """They are, or why they cannot be."""

    client: bytes
    number: int
    epoch: int
    accepted: bool
    why: str


class FetchRecords(NamedTuple):
    """Send me records of a stream. A node answers this, no replica sees it."""

    client: bytes
    number: int
    stream: bytes
    """16 bytes."""
    first_offset: int
    bytes_max: int
    """Of all records together; the first one is sent even if it is larger."""
    hash: bytes
    """Of the last record that the client has, 32 bytes: where the stream ends with it, there is nothing to send."""
    wait: int
    """Milliseconds for which the answer may wait for a record, if there is none yet."""


class FetchedRecords(NamedTuple):
    """As far as this node has them."""

    client: bytes
    number: int
    stream: bytes
    known: bool
    """Whether this node knows of such a stream."""
    next_offset: int
    """Where it ends, here."""
    records: tuple[bytes, ...]
    """Header and body as stored, in order, from the one that holds the offset asked for."""


class Denied(NamedTuple):
    """You may not; nothing was done about this message."""

    client: bytes
    number: int
    why: str


class AskStatus(NamedTuple):
    """How are you? A node answers this, no replica sees it."""

    client: bytes
    number: int


class TellStatus(NamedTuple):
    """What a node says of itself."""

    client: bytes
    number: int
    document: bytes
    """JSON, in UTF-8: :mod:`veritydb.cluster.status`. For people and monitors, who leave out what they do not know."""


class Prepare(NamedTuple):
    """Make this durable and say so."""

    epoch: int
    view: int
    src: int
    entry: Entry
    commit_max: int


class PrepareOk(NamedTuple):
    """It is durable here, and so is every op before it that its log has."""

    epoch: int
    view: int
    src: int
    op: int
    checksum: bytes
    commit_min: int
    checkpoint_op: int


class Commit(NamedTuple):
    """The primary is alive, and this is committed."""

    epoch: int
    view: int
    src: int
    commit_max: int
    checksum: bytes
    """Of the header at ``commit_max``."""
    stamp: int
    """Rises with every one that the primary sends in a view, so that an old one is known."""
    nonce: int
    """A read that wants to know whether we still are in this view; 0: no answer is asked for."""
    checkpoint: Checkpoint


class CommitAck(NamedTuple):
    """I am in your view, normal, and heard this."""

    epoch: int
    view: int
    src: int
    nonce: int


class ExitView(NamedTuple):
    """I hear nothing of this view's primary."""

    epoch: int
    view: int
    src: int


class Suffix(NamedTuple):
    """The end of a log: headers from its head downwards, without a gap in the ops."""

    headers: tuple[Header | None, ...]
    """Newest first; None where the op's header is not known here. Those that are known lie on one chain."""
    present: int
    """Bit i: the body of ``headers[i]`` is readable here."""
    nack: int
    """Bit i: this member certainly never acknowledged an op there in the view of its log."""


class JoinView(NamedTuple):
    """I take no part in any view below this one; choose a log for it from mine and others'."""

    epoch: int
    view: int
    src: int
    log_view: int
    op: int
    commit_min: int
    commit_max: int
    checkpoint: Checkpoint
    suffix: Suffix


class StartView(NamedTuple):
    """The view's log ends like this."""

    epoch: int
    view: int
    src: int
    op: int
    commit_max: int
    headers: tuple[Header, ...]
    """Newest first, from ``op`` down to ``commit_max`` or below."""
    checkpoint: Checkpoint
    nonce: int
    members: tuple[int, ...]


class GetView(NamedTuple):
    """Send me StartView of this view."""

    epoch: int
    view: int
    src: int
    nonce: int


class GetHeaders(NamedTuple):
    """Send me the headers you have of these ops."""

    epoch: int
    view: int
    src: int
    op_min: int
    op_max: int


class Headers(NamedTuple):
    """Here, newest first. Whoever gets them believes those that connect to a header it has."""

    epoch: int
    view: int
    src: int
    headers: tuple[Header, ...]


class GetPrepare(NamedTuple):
    """Send me the entry with this checksum."""

    epoch: int
    view: int
    src: int
    op: int
    checksum: bytes


class Repair(NamedTuple):
    """Here it is. No promise goes with it: it is taken if its checksum is the one that was missing."""

    epoch: int
    view: int
    src: int
    entry: Entry


class GetSnapshot(NamedTuple):
    """Send me a piece of the snapshot with this root."""

    epoch: int
    view: int
    src: int
    root: bytes
    offset: int


class SnapshotChunk(NamedTuple):
    """Here; an empty piece says that I do not have it."""

    epoch: int
    view: int
    src: int
    root: bytes
    offset: int
    size: int
    """Of the whole."""
    data: bytes


class Ping(NamedTuple):
    """Where I am: ``view`` is the one that is durable here."""

    epoch: int
    view: int
    src: int
    log_view: int
    op: int
    commit_max: int
    checkpoint: Checkpoint
    release: int
    """Version of the sender's program."""


class Pong(NamedTuple):
    """The answer, the same from the other side."""

    epoch: int
    view: int
    src: int
    log_view: int
    op: int
    commit_max: int
    checkpoint: Checkpoint
    release: int
    heard_view: int
    """The highest view that the receiver has ever told the sender of; files that know less are an old backup's."""


class NewEpoch(NamedTuple):
    """Your epoch has ended, and these ops are committed."""

    epoch: int
    """The receiver's, if ``headers`` begin with the op that ended it; else the sender's."""
    view: int
    src: int
    headers: tuple[Header, ...]
    """Newest first."""
    checkpoint: Checkpoint
    members: tuple[int, ...]
    """Of the sender's epoch."""


ClientMessage: TypeAlias = Request | ReadRequest | Reconfigure | FetchRecords | AskStatus
ToClient: TypeAlias = Reply | Evicted | Redirect | ReadReply | Reconfigured | FetchedRecords | Denied | TellStatus
PeerMessage: TypeAlias = (
    Prepare
    | PrepareOk
    | Commit
    | CommitAck
    | ExitView
    | JoinView
    | StartView
    | GetView
    | GetHeaders
    | Headers
    | GetPrepare
    | Repair
    | GetSnapshot
    | SnapshotChunk
    | Ping
    | Pong
    | NewEpoch
)
Message: TypeAlias = ClientMessage | ToClient | PeerMessage
