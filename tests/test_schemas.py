"""The definitions of stored bytes: what logs that exist rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from veritydb import applied, schemas
from veritydb.events import Op
from veritydb.log.record import HEADER_SIZE, SEGMENT_HEADER_SIZE, Kind
from veritydb.schemas import files, record

# Words of data, pointers, and each field with its type and place. A log written today must be readable for ever: fields
# are added at the end, with numbers of their own; what stands here stays. (A field's name is not stored.)
LAYOUT: dict[str, tuple[int, int, str]] = {
    "Part": (0, 1, "transactions:list@0"),
    "Transaction": (
        3,
        3,
        "idHigh:uint64@0 idLow:uint64@1 actor:text@0 reason:text@1 events:list@2 continues:bool@128",
    ),
    "Event": (
        1,
        1,
        "rows:struct@0 row:struct@0 ddl:struct@0 blob:struct@0 setting:struct@0 sequence:struct@0 clear:text@0 "
        "genesis:struct@0 cut:struct@0",
    ),
    "Rows": (
        1,
        5,
        "table:text@0 op:uint8@0 count:uint32@1 rowids:list@1 rowidsAfter:list@2 before:list@3 after:list@4 net:bool@8",
    ),
    "Row": (
        3,
        3,
        "table:text@0 op:uint8@0 hasRowid:bool@8 rowid:int64@1 rowidAfter:int64@2 before:data@1 after:data@2",
    ),
    "Column": (1, 6, "kind:uint8@0 kinds:data@0 ints:list@1 floats:list@2 lengths:list@3 text:data@4 blob:data@5"),
    "Schema": (1, 2, "sql:text@0 legacyAlterTable:bool@0 dqsDdl:bool@1 digest:data@1"),
    "BlobWrite": (2, 4, "table:text@0 rowid:int64@0 column:text@1 offset:uint32@2 data:data@2 before:data@3"),
    "Setting": (1, 1, "name:text@0 value:int64@0"),
    "Sequence": (1, 2, "table:text@0 value:struct@1 gone:bool@0"),
    "Genesis": (1, 2, "encoding:text@0 pageSize:uint32@0 autoVacuum:uint32@1 software:text@1"),
    "Cut": (2, 2, "segment:text@0 position:uint64@0 length:uint64@1 why:text@1"),
    "Header": (
        24,
        0,
        "streamHigh:uint64@0 streamLow:uint64@1 firstOffset:uint64@2 timestamp:uint64@3 prevHash0:uint64@4 "
        "prevHash1:uint64@5 prevHash2:uint64@6 prevHash3:uint64@7 idHigh:uint64@8 idLow:uint64@9 keyId:uint64@10 "
        "salt0:uint64@11 salt1:uint64@12 salt2:uint64@13 salt3:uint64@14 nonceHigh:uint64@15 partsDigest0:uint64@16 "
        "partsDigest1:uint64@17 partsDigest2:uint64@18 partsDigest3:uint64@19 partsLength:uint64@20 "
        "tailLength:uint32@42 nonceLow:uint32@43 partCount:uint32@44 generation:uint32@45 transactionCount:uint32@46 "
        "kind:uint16@94 version:uint16@95",
    ),
    "SegmentHeader": (
        8,
        0,
        "streamHigh:uint64@0 streamLow:uint64@1 firstOffset:uint64@2 prevHash0:uint64@3 prevHash1:uint64@4 "
        "prevHash2:uint64@5 prevHash3:uint64@6 number:uint32@14 version:uint32@15",
    ),
    "AppliedIndex": (
        11,
        0,
        "streamHigh:uint64@0 streamLow:uint64@1 nextOffset:uint64@2 idHigh:uint64@3 idLow:uint64@4 prevHash0:uint64@5 "
        "prevHash1:uint64@6 prevHash2:uint64@7 prevHash3:uint64@8 position:uint64@9 segment:uint32@20 "
        "version:uint32@21",
    ),
    "Index": (2, 3, "segment:uint32@0 length:uint64@1 offsets:list@0 positions:list@1 times:list@2"),
    "KeyFile": (0, 1, "keys:list@0"),
    "WrappedKey": (
        4,
        4,
        "keyId:uint64@0 derivation:text@0 salt:data@1 costLog2:uint8@8 nonce:data@2 wrapped:data@3 streamHigh:uint64@2 "
        "streamLow:uint64@3",
    ),
}


def structs() -> dict[str, Any]:
    """Return every struct that is defined."""
    found = {name: getattr(module, name) for module in (record, files) for name in dir(module)}
    return {name: struct for name, struct in found.items() if hasattr(struct, "new_message")}


def test_every_struct_is_pinned() -> None:
    assert structs().keys() == LAYOUT.keys()


@pytest.mark.parametrize("name", LAYOUT)
def test_the_layout_stays(name: str) -> None:
    node = structs()[name].schema.node.struct
    fields = " ".join(f"{field.name}:{field.slot.type.which()}@{field.slot.offset}" for field in node.fields)
    assert (node.dataWordCount, node.pointerCount, fields) == LAYOUT[name]


def test_the_union_of_events_keeps_its_numbers() -> None:
    fields = [field for field in record.Event.schema.node.struct.fields if field.discriminantValue != 0xFFFF]
    numbers = {field.name: field.discriminantValue for field in fields}
    names = ["rows", "row", "ddl", "blob", "setting", "sequence", "clear", "genesis", "cut"]
    assert numbers == {name: number for number, name in enumerate(names)}


def test_the_numbers_in_the_schema_are_those_in_the_code() -> None:
    assert {op.name: op.value for op in Op} == {"INSERT": 1, "UPDATE": 2, "DELETE": 3}
    assert {kind.name: kind.value for kind in Kind} == {"DATA": 1, "GENERATION": 2, "CHECKPOINT": 3, "KEYS": 4}


@pytest.mark.parametrize(
    "struct", [record.Header, files.SegmentHeader, files.AppliedIndex], ids=["Header", "SegmentHeader", "AppliedIndex"]
)
def test_what_is_packed_by_position_has_one_layout(struct: Any) -> None:
    """No pointers, and no bit that belongs to no field."""
    node = struct.schema.node.struct
    bits = {"uint64": 64, "uint32": 32, "uint16": 16}
    assert node.pointerCount == 0
    assert sum(bits[field.slot.type.which()] for field in node.fields) == node.dataWordCount * 64
    assert len(struct.new_message().to_bytes()) == 16 + node.dataWordCount * 8


def test_sizes_that_are_written_down_elsewhere_agree() -> None:
    assert len(record.Header.new_message().to_bytes()) == HEADER_SIZE == 208
    assert len(files.AppliedIndex.new_message().to_bytes()) == applied.SIZE == 104
    # Magic, message and digest.
    assert 8 + len(files.SegmentHeader.new_message().to_bytes()) + 32 <= SEGMENT_HEADER_SIZE == 128


def test_each_definition_says_what_its_fields_mean() -> None:
    """The files are the documentation."""
    for path in sorted(Path(schemas.__file__).resolve().parent.glob("*.capnp")):
        text = path.read_text()
        assert text.startswith("# ")
        for body in text.split("\nstruct ")[1:]:
            assert "#" in body, body.splitlines()[0]
