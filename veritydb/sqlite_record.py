"""Rows as bytes in SQLite's own record format (https://www.sqlite.org/fileformat2.html#record_format).

A header (its length, then one varint a value that says class and size), then the values. The codec uses it for single
rows: it is dense, and any tool that knows SQLite's files can read it. Text is UTF-8 whatever the database's encoding; a
real stays a real, though SQLite would store 1.0 in a REAL column as an integer.

Text that is not valid UTF-8 is refused (:class:`NotRepresentable`): written as text it would be indistinguishable from
damage. Such rows are stored by column (:mod:`veritydb.columns`).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from veritydb.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veritydb.events import Image, Value

_pack_int16 = Struct(">h").pack
_pack_int32 = Struct(">i").pack
_pack_int64 = Struct(">q").pack
_pack_real = Struct(">d").pack
_unpack_real = Struct(">d").unpack_from
_ONE_BYTE = [bytes((number & 0xFF,)) for number in range(-128, 128)]

# Serial types. Integers of three and six bytes (3 and 5) are read and never written: no struct code packs them.
_NULL, _INT8, _INT16, _INT32, _INT64, _REAL, _ZERO, _ONE, _BLOB, _TEXT = 0, 1, 2, 4, 6, 7, 8, 9, 12, 13
_INT_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class NotRepresentable(ValueError):
    """The image holds a value that the record format cannot carry exactly."""


def encode_record(image: Sequence[Value]) -> bytes:
    """Return ``image`` as one record. Raises NotRepresentable for invalid text."""
    header = bytearray(1)
    add = header.append
    parts: list[bytes | bytearray] = [header]
    put = parts.append
    # Any, because type checkers do not follow the class of a value through `kind`, which is asked once for speed.
    value: Any
    kind: Any
    for value in image:
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]  any value may come
        if kind is str:
            data = value.encode()
            code = 2 * len(data) + _TEXT
            if code < 0x80:
                add(code)
            else:
                header += _varint(code)
            put(data)
        elif kind is int:
            if -0x80 <= value <= 0x7F:
                if value == 0:
                    add(_ZERO)
                elif value == 1:
                    add(_ONE)
                else:
                    add(_INT8)
                    put(_ONE_BYTE[value + 0x80])  # pyright: ignore[reportUnknownArgumentType]  any value may come
            elif -0x8000 <= value <= 0x7FFF:
                add(_INT16)
                put(_pack_int16(value))
            elif -0x8000_0000 <= value <= 0x7FFF_FFFF:
                add(_INT32)
                put(_pack_int32(value))
            else:
                add(_INT64)
                put(_pack_int64(value))
        elif value is None:
            add(_NULL)
        elif kind is float:
            add(_REAL)
            put(_pack_real(value))
        elif kind is bytes:
            code = 2 * len(value) + _BLOB
            if code < 0x80:
                add(code)
            else:
                header += _varint(code)
            put(value)
        else:
            raise NotRepresentable(f"a value of {kind.__name__} has no place in the record format")
    # The header's length counts itself.
    length = len(header)
    if length < 0x80:
        header[0] = length
    else:
        parts[0] = _own_length(length - 1) + header[1:]
    return b"".join(parts)


def decode_record(data: bytes) -> Image:
    """Return the image that :func:`encode_record` was given. Raises LogDamaged if ``data`` is not one record."""
    size = len(data)
    if size == 0:
        raise LogDamaged("a row has no bytes")
    end = data[0]
    at = 1
    if end >= 0x80:
        end, at = _read_varint(data, 0, size)
    if not at <= end <= size:
        raise LogDamaged(f"a row's header claims {end} of {size} bytes")
    values: list[Value] = []
    put = values.append
    body = end
    while at < end:
        code = data[at]
        at += 1
        if code >= 0x80:
            code, at = _read_varint(data, at - 1, end)
        if code >= _BLOB:
            stop = body + (code - _BLOB >> 1)
            if stop > size:
                raise LogDamaged(f"a value in a row ends at byte {stop} of {size}")
            if code & 1:
                try:
                    put(data[body:stop].decode())
                except UnicodeDecodeError as error:
                    raise LogDamaged("a text in a row is not UTF-8") from error
            else:
                put(data[body:stop])
            body = stop
        elif code == _NULL:
            put(None)
        elif code == _REAL:
            if body + 8 > size:
                raise LogDamaged("a real in a row is cut short")
            put(_unpack_real(data, body)[0])
            body += 8
        elif code == _ZERO:
            put(0)
        elif code == _ONE:
            put(1)
        elif code < _REAL:
            stop = body + _INT_SIZES[code]
            if stop > size:
                raise LogDamaged("an integer in a row is cut short")
            put(int.from_bytes(data[body:stop], "big", signed=True))
            body = stop
        else:
            raise LogDamaged(f"a row has a value of the unknown serial type {code}")
    if body != size:
        raise LogDamaged(f"a row has {size - body} bytes that belong to no value")
    return tuple(values)


def _varint(number: int) -> bytes:
    """Big-endian groups of seven bits; the bit above says that another follows. Lengths stay far below nine bytes."""
    groups = [number & 0x7F]
    number >>= 7
    while number:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(reversed(groups))


def _own_length(rest: int) -> bytes:
    """Return the varint of ``rest`` plus its own size."""
    size = 1
    while len(_varint(rest + size)) != size:
        size += 1
    return _varint(rest + size)


def _read_varint(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Return the varint at ``at`` and the place after it; five bytes hold any length a value can have."""
    number = 0
    for place in range(at, min(at + 5, limit)):
        byte = data[place]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + 1
    raise LogDamaged("a row has a length without end")
