"""Bytes that nobody wrote: a log made of them is read, or refused with a reason, in bounded time and memory."""

from __future__ import annotations

import contextlib
import resource
import tracemalloc
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.logs import SMALL, STREAM, commit, copied, header, segment_path, tails
from veritydb.errors import LogDamaged, LogMissing
from veritydb.log import Log
from veritydb.log.index import Index, decode_index, encode_index
from veritydb.log.record import MAGIC, MAGIC_BEGUN, MAGIC_END, Malformed, pack_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_MAX = 8 << 20


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three segments with small and large records."""
    folder = tmp_path_factory.mktemp("fuzz") / "a-log"
    with contextlib.closing(Log.create(folder, STREAM, segment_size=SMALL)) as log:
        for n in range(14):
            commit(log, bytes([n]) * 300 * (n % 4), parts=[b"p" * 100, b"q" * n] if n % 3 == 1 else None)
        assert log.head.segment == 2
    return folder


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail, rather than take the machine along, when a length is believed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def survives(folder: Path, wanted: list[bytes]) -> None:
    """Open, read, cut, append, read again: what is read is a beginning of what was written, and errors are ours."""
    tracemalloc.start()
    try:
        with contextlib.closing(Log.open(folder, segment_size=SMALL)) as log:
            log.acquire(1)
            if log.torn is not None:
                log.cut(log.torn)
            log.release()
            found = tails(log)
            assert found == wanted[: len(found)]
            commit(log, b"more", parts=[b"part"])
        with contextlib.closing(Log.open(folder, read_only=True)) as log:
            assert tails(log) == [*found, b"partmore"]
    except (LogDamaged, LogMissing):
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MEMORY_MAX


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "copy", "cut", "insert"]),
        st.integers(0, 2),
        st.integers(0, 5500),
        st.integers(0, 5500),
        st.one_of(
            st.binary(min_size=1, max_size=60),
            st.sampled_from([MAGIC, MAGIC_BEGUN, MAGIC_END, STREAM, b"\xff" * 8, bytes(64)]),
        ),
    ),
    min_size=1,
    max_size=4,
)


@given(EDITS)
def test_a_log_edited_anywhere_is_read_or_refused(
    original: Path, tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, int, int, int, bytes]]
) -> None:
    with contextlib.closing(Log.open(original, read_only=True)) as log:
        wanted = tails(log)
    folder = copied(original, tmp_path_factory.getbasetemp() / "edited")
    for edit, number, at, source, data in edits:
        path = segment_path(folder, number)
        content = path.read_bytes()
        if edit == "write":
            content = content[:at] + data + content[at + len(data) :]
        elif edit == "copy":
            content = content[:at] + content[source : source + 300] + content[at + 300 :]
        elif edit == "cut":
            content = content[:at]
        else:
            content = content[:at] + data + content[at:]
        path.write_bytes(content)
    survives(folder, wanted)


@given(st.binary(max_size=600), st.booleans())
def test_a_segment_of_any_bytes_is_read_or_refused(
    original: Path, tmp_path_factory: pytest.TempPathFactory, data: bytes, keep_header: bool
) -> None:
    folder = copied(original, tmp_path_factory.getbasetemp() / "any")
    for number in (1, 2):
        segment_path(folder, number).unlink()
    head = segment_path(folder).read_bytes()[:128] if keep_header else b""
    segment_path(folder).write_bytes(head + data)
    survives(folder, [])


U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "first_offset": U64, "timestamp": U64, "parts_length": U64, "tail_length": U32, "part_count": U32,
            "generation": U32, "transactions": U32, "kind": st.integers(0, 2**16 - 1), "key_id": U64,
            "parts_digest": st.binary(min_size=32, max_size=32),
        },
    ),
    st.one_of(st.none(), U64),
    st.one_of(st.just(208), U32),
    st.binary(max_size=200),
)  # fmt: skip
def test_a_record_that_claims_anything_under_a_fitting_hash_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    changed: dict[str, object],
    body_length: int | None,
    header_length: int,
    body: bytes,
) -> None:
    """Whoever can write the file can also compute its hashes; only the sealed parts are out of reach."""
    folder = tmp_path_factory.mktemp("claims") / "a-log"
    with contextlib.closing(Log.create(folder, STREAM, segment_size=SMALL)) as log:
        commit(log, b"one")
        data = header(log, body, **changed)
        digest = sha256(log.head.hash + data + body).digest()
        frame = pack_prefix(MAGIC, header_length, len(body) if body_length is None else body_length, digest)
        path = segment_path(folder)
        content = path.read_bytes()
        at = log.head.position
        path.write_bytes(content[:at] + frame + data + body + bytes(-len(body) % 8) + content[at + 600 :])
    with contextlib.suppress(LogDamaged), contextlib.closing(Log.open(folder, read_only=True)) as log:
        records = list(log.records())
        assert records[0].tail == b"one"
        for record in records:
            assert sum(16 + len(sealed) for _, sealed in record.parts()) == record.header.parts_length


@given(st.binary(max_size=300), st.booleans())
def test_a_sidecar_of_any_bytes_is_an_index_or_malformed(data: bytes, seal: bool) -> None:
    from blake3 import blake3

    if seal:
        data = b"VERITYIX" + blake3(data).digest() + data
    try:
        index = decode_index(data, 0)
    except Malformed:
        return
    assert len(index.offsets) == len(index.positions) == len(index.times)


@given(st.integers(40, 400), st.integers(0, 255), st.integers(0, 400))
def test_a_sidecar_with_a_fitting_digest_and_a_changed_message_is_an_index_or_malformed(
    at: int, value: int, length: int
) -> None:
    from blake3 import blake3

    good = encode_index(Index(0, 1 << 20, tuple(range(12)), tuple(range(0, 96, 8)), tuple(range(12))))
    message = bytearray(good[40:])
    message[(at - 40) % len(message)] = value
    data = bytes(message[: max(length, 8)])
    try:
        decode_index(b"VERITYIX" + blake3(data).digest() + data, 0)
    except Malformed:
        pass
