"""Events as bytes and back: exact, in the short form and the general one, and never trusted."""

from __future__ import annotations

import struct
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import exact, identities, integers, names, parts, plain_images, raw_texts, texts
from veritydb import few_rows
from veritydb.codec import Piece, decode_part, encode_part, encode_rows
from veritydb.columns import FREE_NULLS
from veritydb.errors import LogDamaged, TransactionTooLarge
from veritydb.events import BlobWrite, Clear, Cut, Genesis, Image, Op, RawText, Rows, Schema, Sequence, Setting
from veritydb.few_rows import FEW, pack_rows, unpack_rows
from veritydb.schemas import record
from veritydb.sqlite_record import encode_record

ID = bytes(range(16))


def piece(*events: Any, continues: bool = False) -> Piece:
    return Piece(ID, "ada", "a reason", list(events), continues)


def inserted(*images: Image) -> Rows:
    return Rows("t", Op.INSERT, list(range(len(images))), None, None, list(images))


@given(parts())
def test_any_part_comes_back_exactly(pieces: list[Piece]) -> None:
    assert exact(decode_part(encode_part(pieces))) == exact(pieces)


@st.composite
def changes(draw: st.DrawFn) -> tuple[Any, ...]:
    """Return one of the rows that encode_rows takes."""
    op = draw(st.sampled_from(Op))
    rowid = draw(st.none() | integers)
    rowid_after = draw(st.none() | integers) if op is Op.UPDATE and rowid is not None else None
    before = None if op is Op.INSERT else draw(plain_images)
    after = None if op is Op.DELETE else draw(plain_images)
    return op, draw(st.sampled_from("tu") | names), rowid, rowid_after, before, after


@st.composite
def few(draw: st.DrawFn) -> tuple[Any, ...]:
    """Return the arguments of encode_rows."""
    rows = draw(st.lists(changes(), min_size=1, max_size=4) | st.lists(changes(), min_size=FEW, max_size=FEW))
    return draw(identities), draw(names), draw(texts), rows


def one(op: int, table: str, *rest: Any) -> tuple[Any, ...]:
    """Return the arguments of encode_rows for one row."""
    return ID, "", "", [(op, table, *rest)]


def as_piece(arguments: tuple[Any, ...]) -> Piece:
    identity, actor, reason, changes = arguments
    return Piece(identity, actor, reason, [as_run(*change) for change in changes], False)


def as_run(op: int, table: str, rowid: Any, rowid_after: Any, before: Any, after: Any) -> Rows:
    return Rows(
        table,
        Op(op),
        None if rowid is None else [rowid],
        None if rowid_after is None or rowid_after == rowid else [rowid_after],
        None if before is None else [before],
        None if after is None else [after],
    )


def row_by_row(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces with each run cut into runs of one row."""

    def cut(rows: Any) -> list[Rows]:
        return [
            as_run(
                rows.op,
                rows.table,
                None if rows.rowids is None else rows.rowids[at],
                None if rows.rowids_after is None else rows.rowids_after[at],
                None if rows.before is None else rows.before[at],
                None if rows.after is None else rows.after[at],
            )
            for at in range(len(rows))
        ]

    return [piece._replace(events=[row for event in piece.events for row in cut(event)]) for piece in pieces]


def built(arguments: tuple[Any, ...]) -> bytes:
    """Return the message of few rows as Cap'n Proto builds it, structs first."""
    identity, actor, reason, changes = arguments
    part = record.Part.new_message()
    transaction = part.init("transactions", 1)[0]
    rows = [event.init("row") for event in transaction.init("events", len(changes))]
    transaction.idHigh = int.from_bytes(identity[:8], "little")
    transaction.idLow = int.from_bytes(identity[8:], "little")
    for row, (_, table, *_) in zip(rows, changes, strict=True):
        row.table = table
    transaction.actor = actor
    transaction.reason = reason
    for row, (op, _, rowid, rowid_after, before, after) in zip(rows, changes, strict=True):
        row.op = int(op)
        if rowid is not None:
            row.hasRowid = True
            row.rowid = rowid
            row.rowidAfter = rowid if rowid_after is None else rowid_after
        if before is not None:
            row.before = encode_record(before)
        if after is not None:
            row.after = encode_record(after)
    return bytes(part.to_bytes())


@given(few())
def test_few_rows_are_the_very_message_that_capnp_builds(arguments: tuple[Any, ...]) -> None:
    assert encode_rows(*arguments) == built(arguments)


@given(few())
def test_few_rows_come_back_exactly_by_either_way(arguments: tuple[Any, ...]) -> None:
    expected = exact([as_piece(arguments)])
    data = encode_rows(*arguments)
    assert unpack_rows(data) is not None
    assert exact(row_by_row(decode_part(data))) == expected
    general = encode_part([as_piece(arguments)])
    assert unpack_rows(general) is None  # Its layout is another one, so this went through Cap'n Proto.
    assert exact(decode_part(general)) == expected


@given(few())
def test_row_form_and_column_form_say_the_same(arguments: tuple[Any, ...]) -> None:
    wanted = decode_part(encode_rows(*arguments))
    for rows in wanted[0].events:
        assert isinstance(rows, Rows)
        # A run that is to be applied as a set is always stored by column.
        by_column = Rows(rows.table, rows.op, rows.rowids, rows.rowids_after, rows.before, rows.after, net=True)
        (back,) = decode_part(encode_part([wanted[0]._replace(events=[by_column])]))[0].events
        assert exact(back) == exact(by_column)
        assert isinstance(back, Rows)
        assert exact(back.before) == exact(rows.before)
        assert exact(back.after) == exact(rows.after)


def test_rows_of_one_kind_that_follow_each_other_are_one_run() -> None:
    data = encode_rows(
        ID,
        "ada",
        "a reason",
        [
            (Op.INSERT, "t", 1, None, None, (1, "x")),
            (Op.INSERT, "t", 2, None, None, [2, "y"]),
            (Op.INSERT, "t", 3, None, None, (3,)),
            (Op.UPDATE, "t", 1, 9, (1, "x"), (9, "x")),
            (Op.UPDATE, "t", 2, None, (2, "y"), (2, "z")),
            (Op.UPDATE, "w", None, None, ("k",), ("l",)),
            (Op.DELETE, "w", None, None, ("l",), None),
            (Op.DELETE, "w", None, None, ("m",), None),
            (Op.INSERT, "t", 1, None, None, (1, "x")),
        ],
    )
    assert decode_part(data) == [
        piece(
            Rows("t", Op.INSERT, [1, 2], None, None, [(1, "x"), (2, "y")]),
            Rows("t", Op.INSERT, [3], None, None, [(3,)]),
            Rows("t", Op.UPDATE, [1, 2], [9, 2], [(1, "x"), (2, "y")], [(9, "x"), (2, "z")]),
            Rows("w", Op.UPDATE, None, None, [("k",)], [("l",)]),
            Rows("w", Op.DELETE, None, None, [("l",), ("m",)], None),
            Rows("t", Op.INSERT, [1], None, None, [(1, "x")]),
        )
    ]


@given(raw_texts)
def test_a_row_with_invalid_text_is_stored_by_column(raw: RawText) -> None:
    arguments = one(Op.UPDATE, "t", 7, 8, (1, raw), (raw, "x"))
    data = encode_rows(*arguments)
    with record.Part.from_bytes(data) as part:
        assert part.transactions[0].events[0].which() == "rows"
    assert exact(decode_part(data)) == exact([as_piece(arguments)])


def test_a_rowid_after_that_is_the_same_comes_back_too() -> None:
    """The row form cannot say it, so it takes the other one."""
    pieces = [piece(Rows("t", Op.UPDATE, [7], [7], [(1,)], [(2,)]))]
    assert decode_part(encode_part(pieces)) == pieces


def test_one_row_without_net_is_stored_as_a_row() -> None:
    with record.Part.from_bytes(encode_part([piece(inserted((1,)))])) as part:
        assert part.transactions[0].events[0].which() == "row"


def test_what_was_remembered_for_texts_is_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_rows, "_SHAPES_MAX", 3)
    for _ in range(2):
        for actor, reason, table in [
            ("a", "b", "c"),
            ("ab", "", "c"),
            ("", "ab", "c"),
            ("a", "bc", ""),
            ("x" * 9999, "", ""),
        ]:
            (back,) = decode_part(encode_rows(ID, actor, reason, [(1, table, 1, None, None, (1,))]))
            assert (back.actor, back.reason) == (actor, reason)
            (rows,) = back.events
            assert isinstance(rows, Rows)
            assert rows.table == table


def test_a_row_of_two_thousand_columns_comes_back() -> None:
    image = tuple("x" * (at % 70) if at % 3 else at for at in range(2000))
    arguments = one(Op.UPDATE, "wide", 1, None, image, image)
    assert decode_part(encode_rows(*arguments)) == [as_piece(arguments)]
    many = [piece(inserted(image, image, image))]
    assert decode_part(encode_part(many)) == many


def test_many_rows_come_back() -> None:
    images = [(at, f"name {at}", at / 3, None, "same") for at in range(30_000)]
    pieces = [piece(inserted(*images), Clear("t"), inserted(*images[:5]))]
    assert decode_part(encode_part(pieces)) == pieces


def test_more_nulls_than_are_free_come_back() -> None:
    count = FREE_NULLS // 4 + 1
    pieces = [piece(inserted(*[(None, 1, None)] * count), inserted(*[(None, 1, None)] * count))]
    data = encode_part(pieces)
    assert decode_part(data) == pieces
    # Three columns were free, and the fourth took a byte a row; besides, rowid and value take eight each.
    assert count * 33 < len(data) < count * 33 + 1000


@pytest.mark.parametrize(
    "rows",
    [
        Rows("t", Op.INSERT, [1], None, [(1,)], [(1,)]),
        Rows("t", Op.INSERT, [1], None, None, None),
        Rows("t", Op.UPDATE, [1], None, [(1,)], None),
        Rows("t", Op.UPDATE, [1], None, None, [(1,)]),
        Rows("t", Op.DELETE, [1], None, [(1,)], [(1,)]),
        Rows("t", Op.DELETE, [1], None, None, None),
        Rows("t", Op.INSERT, [1], [1], None, [(1,)]),
        Rows("t", Op.UPDATE, None, [1], [(1,)], [(1,)]),
        Rows("t", Op.INSERT, [1, 2], None, None, [(1,)]),
        Rows("t", Op.UPDATE, [1], [1, 2], [(1,)], [(1,)]),
        Rows("t", Op.UPDATE, [1], None, [(1,), (2,)], [(1,)]),
    ],
    ids=repr,
)
def test_a_run_that_could_not_be_read_back_is_not_written(rows: Rows) -> None:
    with pytest.raises(ValueError, match=r"do not fit|one run"):
        encode_part([piece(rows)])


def test_what_exceeds_the_format_is_too_large_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros of the operating system that nobody touches take no memory."""
    with pytest.raises(TransactionTooLarge, match="rolled back"):
        encode_part([piece(BlobWrite("t", 1, "c", 0, bytes(1 << 29), b""))])
    monkeypatch.setattr(few_rows, "WORDS_MAX", 100)
    with pytest.raises(TransactionTooLarge, match="rolled back"):
        encode_rows(*one(1, "t", 1, None, None, ("x" * 800,)))
    with pytest.raises(TransactionTooLarge, match="rolled back"):
        encode_rows(ID, "x" * 800, "", [(1, "t", 1, None, None, (1,))])
    with pytest.raises(TransactionTooLarge, match="rolled back"):
        encode_rows(ID, "x" * 799, "", [(1, "t", 1, None, None, (1,))])


EVERY_KIND = [
    Piece(
        ID,
        "ada",
        "correction",
        [
            Genesis("UTF-8", 4096, 0, "veritydb 0.1.0"),
            Schema("CREATE TABLE t(a, b)", True, False, b"\x01" * 16),
            inserted((None, 1), (-0.0, "é\0"), (b"\xff", RawText(b"\xff"))),
            Rows("t", Op.UPDATE, [1], [9], [(None, 1)], [(None, 2)]),
            Rows("w", Op.DELETE, None, None, [("k",), ("l",)], None, net=True),
            BlobWrite("t", 9, "b", 3, b"new", b"old"),
            Setting("user_version", -5),
            Sequence("t", 9, gone=True),
            Clear("s"),
            Cut("00000003.seg", 128, 77, "torn"),
        ],
        True,
    )
]

GOLDEN = (
    "000000008d000000000000000000010001000000370000000400000003000300000102030405060708090a0b0c0d0e0f"
    "01000000000000000900000022000000090000005a0000000d000000a70000006164610000000000636f727265637469"
    "6f6e00000000000028000000010001000700000000000000480000000100020002000000000000005800000001000200"
    "000000000000000070000000010005000100000000000000f00000000300030000000000000000000c01000001000500"
    "030000000000000048010000020004000400000000000000680100000100010005000000000000007001000001000200"
    "060000000000000099010000120000000800000000000000940100000200020000100000000000000500000032000000"
    "050000007a0000005554462d38000000766572697479646220302e312e300000010000000000000005000000aa000000"
    "0d00000082000000435245415445205441424c45207428612c2062290000000001010101010101010101010101010101"
    "01000000030000001100000012000000110000001d000000000000000000000000000000000000001100000077000000"
    "740000000000000000000000000000000100000000000000020000000000000008000000010006000000000000000000"
    "310000001a00000000000000000000002d0000000d0000002d0000000c0000002d00000002000000290000000a000000"
    "0000000000000000250000001a000000250000000d00000000000000000000002100000014000000210000001a000000"
    "210000000a000000000204000000000000000000000000800100000000000000ff000000000000000103050000000000"
    "01000000000000000200000001000000c3a9000000000000ff0000000000000002010000000000000100000000000000"
    "09000000000000000900000012000000090000001a000000090000002200000074000000000000000300090000000000"
    "03000102000000000301000002000000110000001200000000000000000000000000000000000000090000003f000000"
    "000000000000000077000000000000000400000001000600030000000000000000000000000000000000000000000000"
    "000000000000000009000000140000000900000012000000000000000000000001000000010000006b6c000000000000"
    "090000000000000003000000000000000d000000120000000d000000120000000d0000001a0000000d0000001a000000"
    "740000000000000062000000000000006e657700000000006f6c640000000000fbffffffffffffff010000006a000000"
    "757365725f76657273696f6e000000000100000000000000050000001200000004000000010006007400000000000000"
    "01000000000000000000000000000000110000000d000000000000000000000000000000000000000000000000000000"
    "00000000000000000900000000000000730000000000000080000000000000004d00000000000000050000006a000000"
    "090000002a00000030303030303030332e73656700000000746f726e00000000"
)
GOLDEN_SINGLE = (
    "0000000018000000000000000000010001000000370000000400000003000300000102030405060708090a0b0c0d0e0f"
    "00000000000000003100000022000000310000005a000000010000001700000004000000010001000100000000000000"
    "00000000030003000201000000000000010000000000000009000000000000000900000012000000150000001a000000"
    "150000002200000074000000000000006164610000000000636f7272656374696f6e0000000000000300090000000000"
    "0300010200000000"
)


def test_what_an_earlier_version_wrote_is_still_read() -> None:
    """These bytes never change, whatever becomes of the schema; they are format version 1."""
    assert exact(decode_part(bytes.fromhex(GOLDEN))) == exact(EVERY_KIND)
    assert exact(decode_part(bytes.fromhex(GOLDEN_SINGLE))) == exact([EVERY_KIND[0]._replace(
        events=[EVERY_KIND[0].events[3]], continues=False
    )])  # fmt: skip


def forged(change: Callable[[Any], None]) -> bytes:
    """Return a part with one event, changed."""
    part = record.Part.new_message()
    change(part.init("transactions", 1)[0].init("events", 1)[0])
    return bytes(part.to_bytes())


def rows_with(**fields: Any) -> Callable[[Any], None]:
    def change(event: Any) -> None:
        rows = event.init("rows")
        for name, value in fields.items():
            setattr(rows, name, value)

    return change


def row_with(**fields: Any) -> Callable[[Any], None]:
    def change(event: Any) -> None:
        row = event.init("row")
        for name, value in fields.items():
            setattr(row, name, value)

    return change


ONE = encode_record((1,))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rows_with(op=0), "unknown kind 0"),
        (rows_with(op=4), "unknown kind 4"),
        (rows_with(op=1, count=2, rowids=[1]), "2 rows has 1 rowids"),
        (rows_with(op=2, count=0, rowids=[], rowidsAfter=[1]), "0 rows has 1 rowids"),
        (rows_with(op=1, count=1, rowids=[1], rowidsAfter=[1]), "cannot change"),
        (rows_with(op=2, count=1, rowidsAfter=[1]), "cannot change"),
        (rows_with(op=1, count=(1 << 32) - 1), "no columns"),
        (row_with(op=0), "unknown kind 0"),
        (row_with(op=1, after=b""), "no bytes"),
        (row_with(op=2, after=ONE), "no bytes"),
        (row_with(op=1, before=ONE, after=ONE), "does not have"),
        (row_with(op=3, before=ONE, after=ONE), "does not have"),
        (lambda event: event.init("sequence"), None),
    ],
)
def test_an_impossible_event_is_damage(change: Callable[[Any], None], says: str | None) -> None:
    if says is None:  # The control: an event of nothing but defaults is possible.
        decode_part(forged(change))
        return
    with pytest.raises(LogDamaged, match=says):
        decode_part(forged(change))


def test_nulls_without_bytes_are_not_believed() -> None:
    def change(event: Any) -> None:
        rows = event.init("rows")
        rows.op = 1
        rows.count = (1 << 32) - 1
        rows.init("after", 100)

    with pytest.raises(LogDamaged, match="4294967295 NULLs"):
        decode_part(forged(change))


def test_only_the_last_transaction_of_a_part_goes_on() -> None:
    pieces = [piece(continues=True), piece()]
    with pytest.raises(LogDamaged, match="not the last"):
        decode_part(encode_part(pieces))


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(8), bytes(16), b"\xff" * 64, bytes(7) + b"\x01" + bytes(8)], ids=repr
)
def test_what_is_no_message_is_damage_or_empty(data: bytes) -> None:
    try:
        assert decode_part(data) == []
    except LogDamaged as error:
        assert "\n" not in str(error)  # noqa: PT017  both outcomes are right


def test_text_that_is_not_utf8_is_damage() -> None:
    data = encode_part([piece(Clear("table-name"))])
    with pytest.raises(LogDamaged, match="utf-8"):
        decode_part(data.replace(b"table-name", b"table\xffname"))
    data = encode_rows(ID, "an-actor", "", [(1, "t", 1, None, None, (1,))])
    with pytest.raises(LogDamaged, match="utf-8"):
        decode_part(data.replace(b"an-actor", b"an\xffactor"))


def test_elements_smaller_than_ours_are_damage() -> None:
    """Cap'n Proto would read a list of bytes as one of structs, a few bytes as many transactions."""
    for words in (
        # Pointer to Part, its pointer to a list of 4096 bytes.
        [1 << 48, 1 | 2 << 32 | 4096 << 35],
        [1 << 48, 1 | 3 << 32 | 2048 << 35],
    ):
        body = b"".join(word.to_bytes(8, "little") for word in words) + bytes(4096)
        data = bytes(4) + (len(body) // 8).to_bytes(4, "little") + body
        with pytest.raises(LogDamaged, match="do not fit"):
            decode_part(data)


def test_a_text_that_is_pointed_to_often_is_damage() -> None:
    """Else a few bytes could stand for many values."""
    part = record.Part.new_message(num_first_segment_words=20_000)
    events = part.init("transactions", 1)[0].init("events", 20)
    for setting in [event.init("setting") for event in events]:
        setting.name = "n" * 4000
    data = bytearray(part.to_bytes())
    # Let every name's pointer lead to the first one's text. A pointer counts from its own end.
    places = [at for at in range(8, len(data), 8) if int.from_bytes(data[at + 4 : at + 8], "little") == 4001 << 3 | 2]
    assert len(places) == 20
    first = places[0] + 8 + (int.from_bytes(data[places[0] : places[0] + 4], "little") >> 2) * 8
    for place in places:
        data[place : place + 4] = ((first - place - 8) // 8 << 2 | 1).to_bytes(4, "little")
    # As long as the others' texts are there, no more is read than there is.
    assert len(decode_part(bytes(data))[0].events) == 20
    del data[first + 4008 :]
    data[4:8] = (len(data) // 8 - 1).to_bytes(4, "little")
    with pytest.raises(LogDamaged, match="traversal limit"):
        decode_part(bytes(data))


def test_an_error_keeps_no_reader() -> None:
    """Showing one whose limit is used up would end the process; error pages show the variables of a traceback."""
    data = encode_part([piece(Clear("table-name"), Clear("b"))]).replace(b"table-name", b"table\xffname")
    with pytest.raises(LogDamaged) as caught:
        decode_part(data)
    error: BaseException | None = caught.value
    seen = 0
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            seen += 1
            if frame.f_globals["__name__"].startswith("veritydb"):
                assert not [value for value in frame.f_locals.values() if "Reader" in type(value).__name__]
        error = error.__cause__
    assert seen > 3


@pytest.mark.parametrize("rowid", [1, None])
@pytest.mark.parametrize("count", [1, 2])
def test_the_short_way_takes_only_its_own_layout(rowid: int | None, count: int) -> None:
    data = pack_rows(ID, "ada", "because", [(2, "patients", rowid, 2, (1,), (2, "x"))] * count)
    assert unpack_rows(data) is not None
    longer = data[:4] + struct.pack("<I", len(data) // 8) + data[8:] + bytes(8)
    for changed in (data + bytes(8), longer, data[:-8], data[:100], b""):
        assert unpack_rows(changed) is None
    for bit in range(len(data) * 8):
        changed_bytes = bytearray(data)
        changed_bytes[bit // 8] ^= 1 << bit % 8
        changed = bytes(changed_bytes)
        short = unpack_rows(changed) if _decodable(changed) else None
        if short is None:
            continue
        # What the short way accepts, Cap'n Proto reads, and reads the same.
        with record.Part.from_bytes(changed) as part:
            transaction = part.transactions[0]
            identity = transaction.idHigh.to_bytes(8, "little") + transaction.idLow.to_bytes(8, "little")
            rows = [event.row for event in transaction.events]
            assert short == (
                identity,
                transaction.actor,
                transaction.reason,
                [
                    (row.op, row.table, row.rowid if row.hasRowid else None, row.rowidAfter, row.before, row.after)
                    for row in rows
                ],
            )
            assert not transaction.continues


def test_the_short_way_leaves_more_rows_than_it_writes_to_capnp() -> None:
    rows: Any = [(Op.INSERT, "t", at, None, None, (at,)) for at in range(FEW + 1)]
    data = pack_rows(ID, "", "", rows)
    assert unpack_rows(data) is None
    assert row_by_row(decode_part(data)) == [as_piece((ID, "", "", rows))]


def _decodable(data: bytes) -> bool:
    try:
        unpack_rows(data)
    except UnicodeDecodeError:
        return False
    return True
