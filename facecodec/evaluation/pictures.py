"""The pictures that are measured: a folder of files, or a packed set.

A packed set is a pair ``NAME.bin`` (encoded pictures, one after another) and ``NAME.jsonl`` (one line a
picture: ``id``, ``off`` and ``len`` in bytes, and, where known, ``source``, the labelled ``faces`` and any
other column).  A folder may hold ``labels.csv``: the column ``id`` and any others.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facecodec import files, images
from facecodec.errors import FscError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

LABELS = "labels.csv"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True)
class Label:
    """A labelled face, in pixels whose centres are whole numbers: ``box`` (4,), ``landmarks`` (5, 2)."""

    box: Floats
    landmarks: Floats


@dataclass(frozen=True)
class Entry:
    """One picture, not yet read: bytes ``offset`` to ``offset + length`` of a file, or all of it.

    ``labels`` are its faces, largest first, or None where nobody labelled them.  ``tags`` say more of it, by
    the name of their column.
    """

    id: str
    source: str
    path: Path
    offset: int = 0
    length: int | None = None
    labels: tuple[Label, ...] | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def pixels(self) -> Pixels:
        """Return uint8 sRGB (H, W, 3); raises ImageError."""
        if self.length is None:
            return images.load(self.path).pixels
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return images.load(file.read(self.length)).pixels


def open_pictures(where: Path) -> list[Entry]:
    """Return the pictures of a folder, in the order of their paths, or of the packed set ``NAME.jsonl``.

    In a folder and its subfolders, the id of a picture is its name without the suffix if no other picture has
    that name, else its path from the folder; its source is the subfolder.  Raises FscError.
    """
    entries = _packed(where) if where.suffix == ".jsonl" else _folder(where)
    if not entries:
        sets = [str(path) for path in sorted(where.glob("*.jsonl")) if path.with_suffix(".bin").exists()]
        raise FscError(
            f"{where} holds no pictures" + (f"; name one of its sets: {', '.join(sets)}" if sets else "")
        )
    return entries


def _folder(where: Path) -> list[Entry]:
    if not where.is_dir():
        raise FscError(f"{where} is neither a folder of pictures nor a packed set, NAME.jsonl")
    paths = sorted(path for path in where.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = Counter(path.stem for path in paths)
    tags = _tags(where / LABELS)
    entries = []
    for path in paths:
        name = path.stem if names[path.stem] == 1 else path.relative_to(where).as_posix()
        source = path.parent.relative_to(where).as_posix()
        entries.append(Entry(name, source, path, tags={"source": source} | tags.get(name, {})))
    return entries


def _tags(path: Path) -> dict[str, dict[str, str]]:
    """Return the other columns of ``labels.csv`` by id; none if there is no such file; raises FscError."""
    if not path.is_file():
        return {}
    rows = list(csv.DictReader(files.read(path).decode("utf-8-sig", "replace").splitlines()))
    if not rows or "id" not in rows[0]:
        raise FscError(f"{path} has no column id")
    return {
        row["id"]: {column: value for column, value in row.items() if column and value is not None}
        for row in rows
    }


def _packed(where: Path) -> list[Entry]:
    lines = files.read(where).decode("utf-8", "replace").splitlines()
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            entries.append(
                Entry(
                    str(record["id"]),
                    str(record.get("source", where.stem)),
                    where.with_suffix(".bin"),
                    int(record["off"]),
                    int(record["len"]),
                    _labels(record["faces"]) if "faces" in record else None,
                    {
                        key: str(value)
                        for key, value in record.items()
                        if isinstance(value, str | int | float) and key not in ("id", "off", "len")
                    },
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FscError(f"{where}, line {number}: no picture of a packed set ({error})") from error
    return entries


def _labels(faces: list[dict[str, list[float]]]) -> tuple[Label, ...]:
    return tuple(
        Label(
            np.array(face["box"], np.float64).reshape(4), np.array(face["points"], np.float64).reshape(5, 2)
        )
        for face in faces
    )
