"""Parts put aside on disk: added, truncated, read, copied, and gone when they are no longer wanted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.logs import FaultyFiles
from veritydb.errors import LogUnavailable, TransactionTooLarge
from veritydb.log import Spill
from veritydb.log import spill as spill_module
from veritydb.log.record import pack_part_head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["disk", "memory"])
def spill(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spill]:
    with contextlib.closing(Spill(tmp_path if request.param == "disk" else None)) as spill:
        yield spill


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.binary(min_size=12, max_size=12), st.binary(max_size=200)),
        st.tuples(st.just("truncate"), st.integers(0, 20), st.none()),
    ),
    max_size=30,
)


@given(STEPS, st.booleans())
def test_a_spill_is_the_list_of_its_parts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object, object]], on_disk: bool
) -> None:
    parts: list[tuple[bytes, bytes]] = []
    with contextlib.closing(Spill(tmp_path_factory.getbasetemp() if on_disk else None)) as spill:
        for step, first, second in steps:
            if step == "add":
                assert isinstance(first, bytes)
                assert isinstance(second, bytes)
                spill.add(first, second)
                parts.append((first, second))
            else:
                assert isinstance(first, int)
                count = first % (len(parts) + 1)
                spill.truncate(count)
                del parts[count:]
            stored = [pack_part_head(len(sealed), nonce) + sealed for nonce, sealed in parts]
            whole = b"".join(stored)
            assert spill.count == len(parts)
            assert spill.length == len(whole)
            assert spill.digest == (hashlib.sha256(whole).digest() if parts else bytes(32))
            assert [spill.read(n) for n in range(spill.count)] == parts
            assert [spill.stored(n) for n in range(spill.count)] == stored
            copied: list[bytes] = []
            spill.copy(copied.append)
            assert b"".join(copied) == whole


def test_a_large_spill_is_copied_in_pieces(tmp_path: Path) -> None:
    with contextlib.closing(Spill(tmp_path)) as spill:
        for n in range(5):
            spill.add(b"n" * 12, bytes([n]) * 700_000)
        pieces: list[bytes] = []
        spill.copy(pieces.append)
        assert max(map(len, pieces)) <= 1 << 20
        assert hashlib.sha256(b"".join(pieces)).digest() == spill.digest


def test_a_spill_has_no_name_and_its_space_returns(tmp_path: Path) -> None:
    spill = Spill(tmp_path)
    spill.add(b"n" * 12, b"x" * 100)
    assert list(tmp_path.iterdir()) == []
    before = len(os.listdir("/proc/self/fd"))
    spill.close()
    spill.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.parametrize(("name", "value"), [("PART_MAX", 4), ("PARTS_MAX", 20), ("COUNT_MAX", 0)])
def test_what_a_record_cannot_hold_is_refused(
    spill: Spill, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(spill_module, name, value)
    with pytest.raises(TransactionTooLarge):
        spill.add(b"n" * 12, b"12345")
    assert spill.count == 0


@pytest.mark.parametrize("call", ["open", "unlink", "pwrite", "pread", "ftruncate"])
def test_a_disk_that_fails_makes_the_log_unavailable(tmp_path: Path, call: str) -> None:
    files = FaultyFiles(lambda name, _: name == call, errno.ENOSPC)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LogUnavailable, match="put aside on disk"), contextlib.closing(Spill(tmp_path, files)) as spill:
        spill.add(b"n" * 12, b"part")
        spill.truncate(1)
        spill.read(0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_spill_that_lost_bytes_says_so(tmp_path: Path) -> None:
    with contextlib.closing(Spill(tmp_path)) as spill:
        spill.add(b"n" * 12, b"part")
        os.ftruncate(spill._fd, 3)
        with pytest.raises(LogUnavailable, match="is gone"):
            spill.read(0)
