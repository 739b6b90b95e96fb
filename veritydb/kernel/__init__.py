"""The state machine of a node: streams of records, in memory, without clocks, files or keys.

``apply_committed(state, command) -> (state, effects)``: a group of nodes agrees on a sequence of ops
(:mod:`veritydb.vsr`), each node applies them here in that order, and all have the same state after each.

===============  ====================================================================================================
``batch``        the body of an op: requests of many clients
``commands``     what a client asks
``replies``      what it is answered
``state``        what a node has decided: heads, ids, sessions
``machine``      :func:`apply_batch`: the next state
``snapshot``     a state as bytes and back
===============  ====================================================================================================

The rule by which a stream grows, compare-and-append, is :mod:`veritydb.chain`'s and is the same for the log of one
machine. ``docs/internals/kernel.md`` tells why the table of ids may forget and still never lie.
"""

from __future__ import annotations

from veritydb.kernel.batch import (
    BATCH_OVERHEAD,
    COMMAND_MAX,
    REQUEST_OVERHEAD,
    REQUESTS_MAX,
    BadBatch,
    BatchRequest,
    batch_size,
    decode_batch,
    encode_batch,
)
from veritydb.kernel.commands import (
    AUTOMATIC,
    NAME_MAX,
    PAGE_MAX,
    TRANSACTIONS_MAX,
    Append,
    BadCommand,
    Command,
    CreateStream,
    DataClass,
    DropStream,
    ListStreams,
    Placement,
    Register,
    Resolve,
    Subject,
    decode_command,
    encode_append,
    encode_command,
    subject,
)
from veritydb.kernel.machine import (
    Effect,
    OutOfOrder,
    Output,
    RecordAppended,
    StreamCreated,
    StreamDropped,
    apply_batch,
    apply_noop,
)
from veritydb.kernel.replies import (
    Appended,
    BadReply,
    Conflict,
    Created,
    Dropped,
    Forbidden,
    Forgotten,
    Known,
    Refusal,
    Refused,
    Registered,
    Reply,
    StreamInfo,
    Streams,
    decode_reply,
    encode_reply,
)
from veritydb.kernel.snapshot import BadSnapshot, digest, restore, snapshot
from veritydb.kernel.state import EMPTY, Duplicate, Head, Session, State, Stream, Verdict, head, lookup, session

__all__ = [
    "AUTOMATIC",
    "BATCH_OVERHEAD",
    "COMMAND_MAX",
    "EMPTY",
    "NAME_MAX",
    "PAGE_MAX",
    "REQUESTS_MAX",
    "REQUEST_OVERHEAD",
    "TRANSACTIONS_MAX",
    "Append",
    "Appended",
    "BadBatch",
    "BadCommand",
    "BadReply",
    "BadSnapshot",
    "BatchRequest",
    "Command",
    "Conflict",
    "CreateStream",
    "Created",
    "DataClass",
    "DropStream",
    "Dropped",
    "Duplicate",
    "Effect",
    "Forbidden",
    "Forgotten",
    "Head",
    "Known",
    "ListStreams",
    "OutOfOrder",
    "Output",
    "Placement",
    "RecordAppended",
    "Refusal",
    "Refused",
    "Register",
    "Registered",
    "Reply",
    "Resolve",
    "Session",
    "State",
    "Stream",
    "StreamCreated",
    "StreamDropped",
    "StreamInfo",
    "Streams",
    "Subject",
    "Verdict",
    "apply_batch",
    "apply_noop",
    "batch_size",
    "decode_batch",
    "decode_command",
    "decode_reply",
    "digest",
    "encode_append",
    "encode_batch",
    "encode_command",
    "encode_reply",
    "head",
    "lookup",
    "restore",
    "session",
    "snapshot",
    "subject",
]
