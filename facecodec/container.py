"""Bytes <-> header and sections: section "Container" of bitstream_spec.md.

Lengths, order and checks are settled here; what a payload means is not known here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal
from zlib import crc32

from .errors import CorruptError, TruncatedError, UnsupportedError

MAGIC = b"\xf5SC"
VERSION = 2
MAX_SIDE = 65_535
MAX_SECTIONS = 16
CHECK_BYTES, SHORT_CHECK_BYTES = 4, 2
LONG = 1 << 14
"""A body of so many bytes, whose Length takes three or more, has the longer Check; Faces always has it."""

ID_BYTES = 4

_HEADER = struct.Struct(f"<3sBHH{ID_BYTES}s")
HEADER_BYTES = _HEADER.size
_LAST_ENTRY = 0x80
_MAX_NUMBER_BYTES = 5


class SectionType(IntEnum):
    """The sections that this version knows; the numbers are those of the file."""

    FACES = 1
    APPEARANCE = 2
    ENHANCEMENT = 3
    RESIDUAL = 4


_KNOWN_TYPES = frozenset(SectionType) | frozenset(range(64, 128))

State = Literal["verified", "cut", "damaged"]


@dataclass(frozen=True)
class Section:
    """One section of a file.

    `type`: a SectionType, or 64..127. `offset`: the byte of the file where its body starts. `length`: of the
    body, in bytes, Check included, as the table declares it. `payload`: the body without its Check, as far as
    the file goes. `state`: "verified" by its Check, "cut" by the end of the file, or "damaged": whole, with a
    wrong Check.
    """

    type: int
    offset: int
    length: int
    payload: bytes
    state: State

    @property
    def missing(self) -> int:
        """The bytes of the payload that are not there."""
        return self.length - check_bytes(self.type, self.length) - len(self.payload)


@dataclass(frozen=True)
class Container:
    """A parsed file: picture size in pixels, 4 bytes of Weights_Id, sections in file order, Faces first."""

    width: int
    height: int
    weights_id: bytes
    sections: tuple[Section, ...]

    def find(self, section_type: int) -> Section | None:
        """Return the section of this type, or None."""
        return next((section for section in self.sections if section.type == section_type), None)


def parse(data: bytes) -> Container:
    """Read a file, or the first bytes of one; never looks inside a payload.

    Header, table and Faces are verified or refused: TruncatedError, CorruptError, UnsupportedError. A later
    section that is cut or damaged is no error here; its `state` says so.
    """
    width, height, weights_id = _parse_header(data)
    entries, offset = _parse_table(data)
    sections = []
    for section_type, length in entries:
        sections.append(_parse_section(data, section_type, offset, length))
        offset += length
    if sections[0].state == "cut":
        raise TruncatedError("the file ends inside its faces section")
    if sections[0].state == "damaged":
        raise CorruptError("the header, the section table or the faces section is damaged")
    if len(data) > offset:
        raise CorruptError(f"{len(data) - offset} bytes follow the last section")
    return Container(width, height, weights_id, tuple(sections))


def write(width: int, height: int, weights_id: bytes, payloads: Mapping[int, bytes]) -> bytes:
    """Build a file from the payload of each section type; the inverse of `parse`.

    ValueError for a side outside 1..65535, a Weights_Id that is not 4 bytes, or sections that `parse` would
    refuse.
    """
    types = sorted(payloads)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"a picture of {width}x{height} has no place in the format")
    if len(weights_id) != ID_BYTES:
        raise ValueError(f"a weights id is {ID_BYTES} bytes")
    if types[:1] != [SectionType.FACES] or len(types) > MAX_SECTIONS or not _KNOWN_TYPES.issuperset(types):
        raise ValueError(f"no file has the sections {types}")
    file = bytearray(_HEADER.pack(MAGIC, VERSION, width, height, weights_id))
    for section_type in types:
        file.append(section_type | (_LAST_ENTRY if section_type == types[-1] else 0))
        file += number_bytes(body_bytes(section_type, len(payloads[section_type])))
    file += payloads[SectionType.FACES]
    file += _check(file, CHECK_BYTES)
    for section_type in types[1:]:
        payload = payloads[section_type]
        size = body_bytes(section_type, len(payload)) - len(payload)
        parts = [_check(payload, size), payload]
        for part in reversed(parts) if section_type == SectionType.APPEARANCE else parts:
            file += part
    return bytes(file)


def _parse_header(data: bytes) -> tuple[int, int, bytes]:
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise CorruptError("this is not an FSC file")
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise UnsupportedError(f"the file is of bitstream version {data[len(MAGIC)]}, known is {VERSION}")
    if len(data) < _HEADER.size:
        raise TruncatedError("the file ends inside its header")
    _, _, width, height, weights_id = _HEADER.unpack_from(data)
    if not (width and height):
        raise CorruptError(f"a picture of {width}x{height} has no pixels")
    return width, height, weights_id


def _parse_table(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """Return the (type, length) of each section, and where the table ends."""
    entries: list[tuple[int, int]] = []
    position, last = _HEADER.size, False
    while not last:
        last = _byte(data, position) >= _LAST_ENTRY
        if not last and len(entries) == MAX_SECTIONS - 1:
            raise CorruptError(f"the section table has more than {MAX_SECTIONS} entries")
        section_type = data[position] % _LAST_ENTRY
        if section_type not in _KNOWN_TYPES:
            raise UnsupportedError(f"the file needs sections of type {section_type}, which are not known")
        if not entries and section_type != SectionType.FACES:
            raise CorruptError("the file does not start with its faces section")
        if entries and section_type <= entries[-1][0]:
            raise CorruptError("the sections of the file are not in increasing order")
        length, position = _parse_length(data, section_type, position + 1)
        entries.append((section_type, length))
    return entries, position


def _parse_length(data: bytes, section_type: int, position: int) -> tuple[int, int]:
    """Return the Length at `position`, and where it ends."""
    try:
        length, end = parse_number(data, position)
    except TruncatedError:
        raise TruncatedError("the file ends inside its section table") from None
    if not check_bytes(section_type, length) <= length < 1 << 32:
        raise CorruptError(f"a section of type {section_type} cannot have {length} bytes")
    return length, end


def parse_number(data: bytes, position: int) -> tuple[int, int]:
    """Return the LEB128 number at `position`, and where it ends; raises TruncatedError or CorruptError."""
    number = 0
    for index in range(_MAX_NUMBER_BYTES):
        if position + index >= len(data):
            raise TruncatedError("the file ends inside a number")
        byte = data[position + index]
        number |= byte % 128 << 7 * index
        if byte < 128:
            if index and not byte:
                raise CorruptError("a number is longer than it need be")
            return number, position + index + 1
    raise CorruptError(f"a number has more than {_MAX_NUMBER_BYTES} bytes")


def number_bytes(number: int) -> bytes:
    """Return a number, not negative, as LEB128."""
    low, rest = number % 128, number >> 7
    return bytes([low | 128]) + number_bytes(rest) if rest else bytes([low])


def _parse_section(data: bytes, section_type: int, offset: int, length: int) -> Section:
    body, size = data[offset : offset + length], check_bytes(section_type, length)
    if section_type in (SectionType.FACES, SectionType.APPEARANCE):
        payload, check = body[: length - size], body[length - size :]
    else:
        check, payload = body[:size], body[size:]
    covered = data[:offset] + payload if section_type == SectionType.FACES else payload
    state: State = "verified" if check == _check(covered, size) else "damaged"
    return Section(section_type, offset, length, payload, state if len(body) == length else "cut")


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise TruncatedError("the file ends inside its section table")
    return data[position]


def check_bytes(section_type: int, length: int) -> int:
    """Return the size of the Check of a body of this length."""
    return CHECK_BYTES if section_type == SectionType.FACES or length >= LONG else SHORT_CHECK_BYTES


def body_bytes(section_type: int, size: int) -> int:
    """Return the length of the body of a payload of this size."""
    return size + check_bytes(section_type, size + SHORT_CHECK_BYTES)


def _check(covered: bytes | bytearray, size: int) -> bytes:
    return crc32(covered).to_bytes(CHECK_BYTES, "little")[:size]


def findings(file: Container) -> tuple[str, ...]:
    """Return a sentence for each section that is cut or damaged."""
    names = {**{int(t): t.name.lower() for t in SectionType}}
    return tuple(
        f"the {names.get(s.type, f'optional ({s.type})')} section is {s.state}"
        + (f" after {len(s.payload)} of {s.length} bytes" if s.state == "cut" else "")
        for s in file.sections
        if s.state != "verified"
    )
