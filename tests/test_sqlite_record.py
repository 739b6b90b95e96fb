"""Rows in SQLite's record format: exact, readable by SQLite's rules, and never trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest
from hypothesis import given

from tests.support.events import exact, plain_images
from veritydb.errors import LogDamaged
from veritydb.events import RawText
from veritydb.sqlite_record import NotRepresentable, decode_record, encode_record

if TYPE_CHECKING:
    from pathlib import Path

    from veritydb.events import Image


@given(plain_images)
def test_any_image_comes_back_exactly(image: Image) -> None:
    assert exact(decode_record(encode_record(image))) == exact(image)


@pytest.mark.parametrize("count", [0, 1, 126, 127, 128, 129, 2000, 16_381, 16_382, 16_383, 32_766])
def test_any_number_of_columns_comes_back(count: int) -> None:
    """The header's length counts its own bytes; these counts lie around the lengths at which it grows by one."""
    image = (None,) * count
    assert decode_record(encode_record(image)) == image


def test_long_values_come_back() -> None:
    image = ("x" * 57, "x" * 58, "é" * 10_000, b"\0" * 3_000_000, b"y" * 58, b"y" * 57)
    assert decode_record(encode_record(image)) == image


def test_the_bytes_are_those_of_the_format_document() -> None:
    image = (None, 0, 1, -1, 300, -70_000, 1 << 40, 1.5, "aé", b"\x01")
    assert encode_record(image) == bytes.fromhex(
        "0b" "00" "08" "09" "01" "02" "04" "06" "07" "13" "0e"
        "ff" "012c" "fffeee90" "0000010000000000" "3ff8000000000000" "61c3a9" "01"
    )  # fmt: skip


def test_a_record_of_a_database_file_is_read(tmp_path: Path) -> None:
    """SQLite writes integers of three and six bytes, which encode_record does not."""
    image = (None, 1 << 20, -(1 << 40), 0, 1, 127, "text", b"blob", 2.5, (1 << 63) - 1)
    path = tmp_path / "one.db"
    connection = apsw.Connection(str(path))
    # Without a column type there is no affinity, and without a rowid's alias every value is in the record.
    connection.execute("CREATE TABLE t(a, b, c, d, e, f, g, h, i, j)")
    connection.execute("INSERT INTO t VALUES(?,?,?,?,?,?,?,?,?,?)", image)
    page_size = connection.pragma("page_size")
    root = connection.execute("SELECT rootpage FROM sqlite_schema").fetchone()[0]
    connection.close()
    page = path.read_bytes()[(root - 1) * page_size : root * page_size]
    cell = int.from_bytes(page[8:10], "big")
    length, rowid = page[cell : cell + 2]
    assert rowid == 1
    assert decode_record(page[cell + 2 : cell + 2 + length]) == image


def test_invalid_text_has_no_place_in_a_record() -> None:
    with pytest.raises(NotRepresentable, match="RawText"):
        encode_record((1, RawText(b"\xff")))


@pytest.mark.parametrize("value", [True, object(), bytearray(b"x")])
def test_what_is_no_value_of_sqlite_is_refused(value: object) -> None:
    with pytest.raises(NotRepresentable):
        encode_record((value,))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "no bytes"),
        ("00", "claims 0 of 1"),
        ("05", "claims 5 of 1"),
        ("80", "without end"),
        ("8080808080808001", "without end"),
        ("0380", "claims 3 of 2"),
        ("0280", "without end"),
        ("020a", "serial type 10"),
        ("020b", "serial type 11"),
        ("0201", "integer in a row is cut"),
        ("0206ffffffffffffff", "integer in a row is cut"),
        ("02070000", "real in a row is cut"),
        ("020f", "ends at byte 3 of 2"),
        ("020fff", "not UTF-8"),
        ("02000001", "2 bytes that belong to no value"),
        ("0700ffffffff7f", "ends at byte"),
    ],
)
def test_nonsense_is_damage(data: str, says: str) -> None:
    with pytest.raises(LogDamaged, match=says):
        decode_record(bytes.fromhex(data))
