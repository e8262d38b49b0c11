"""What every byte of a file is for."""

from __future__ import annotations

from dataclasses import dataclass

from . import base_layer, container, enhancement
from .container import SectionType
from .errors import CorruptError


@dataclass(frozen=True)
class Part:
    """Bytes ``offset`` to ``offset + size`` of a file, and what they hold."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Info:
    """What a file holds; ``parts`` cover it without gaps or overlaps."""

    version: int
    width: int
    height: int
    model: str
    faces: int
    parts: tuple[Part, ...]
    notes: tuple[str, ...]


def info(data: bytes) -> Info:
    """Account for every byte of a file; raises StreamError."""
    file = container.parse(data)
    first = file.sections[0]
    parts = [Part("header", 0, container.HEADER_BYTES)]
    parts.append(Part("section table", container.HEADER_BYTES, first.offset - container.HEADER_BYTES))
    flags, count = _face_head(first.payload)
    for section in file.sections:
        at, end = section.offset, min(len(data), section.offset + section.length)
        for name, size in _layout(section.type, flags, count, section.length):
            size = min(size, end - at)
            if size > 0:
                parts.append(Part(name, at, size))
                at += size
    return Info(
        container.VERSION,
        file.width,
        file.height,
        file.weights_id.hex(),
        count,
        tuple(parts),
        container.findings(file),
    )


def _face_head(payload: bytes) -> tuple[int, int]:
    if len(payload) < 2:
        raise CorruptError("the faces section has no face count")
    return payload[0], payload[1]


def _layout(section_type: int, flags: int, count: int, length: int) -> list[tuple[str, int]]:
    """Return the name and the size of each part of a section body, in order."""
    check = container.check_bytes(section_type, length)
    if section_type == SectionType.FACES:
        places = 0 if flags & base_layer.ALIGNED else base_layer.GEOMETRY_BYTES * count
        return [
            ("face count", 2),
            ("geometry", places),
            ("identity codes", length - 2 - places - check),
            ("faces check", check),
        ]
    if section_type == SectionType.APPEARANCE:
        return [("appearance codes", length - check), ("appearance check", check)]
    if section_type == SectionType.ENHANCEMENT:
        return [
            ("enhancement check", check),
            ("enhancement model", enhancement.ID_BYTES),
            ("enhancement flags", enhancement.HEAD_BYTES - enhancement.ID_BYTES),
            ("enhancement", length - check - enhancement.HEAD_BYTES),
        ]
    if section_type == SectionType.RESIDUAL:
        return [("residual check", check), ("exact residual", length - check)]
    return [(f"optional section {section_type}", length)]
