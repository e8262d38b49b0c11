"""Training pictures, decoded once into one memory-mapped file."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

FRONTAL = 0.01
"""Faces of one source are drawn in proportion to this and the square of their turn."""

AGES = (5, 20, 40, 60)
"""Years that bound the ages that are drawn alike."""


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures with their labels.

    ``stores`` are flat uint8 arrays; ``records`` hold ``id, source, size [w, h], store, start, faces``,
    and ``age`` in years where it is known.
    """

    stores: list[Pixels]
    records: list[dict[str, Any]]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.records)

    def picture(self, index: int) -> Pixels:
        """Return picture ``index`` as a uint8 RGB (H, W, 3) view."""
        record = self.records[index]
        width, height = record["size"]
        start = record["start"]
        store = self.stores[record["store"]]
        pixels: Pixels = store[start : start + width * height * 3].reshape(height, width, 3)
        return pixels

    def landmarks(self, index: int) -> npt.NDArray[np.float64]:
        """Return the (5, 2) landmarks of the largest face of picture ``index``, in its pixels."""
        return np.array(self.records[index]["faces"][0]["points"], np.float64)

    def with_faces(self) -> list[int]:
        """Return the indices of the pictures that have at least one labelled face."""
        return [i for i, record in enumerate(self.records) if record["faces"]]

    def any_face(self, rng: np.random.Generator) -> int:
        """Return the index of a random picture with a face.

        All sources are drawn alike, and in each all ages, and of these faces rather those that look aside.
        """
        faced, chance = self._chances
        return faced[int(np.searchsorted(chance, rng.random()))]

    @cached_property
    def _chances(self) -> tuple[list[int], npt.NDArray[np.float64]]:
        faced = self.with_faces()
        weight = np.array([FRONTAL + turn(self.landmarks(index)) ** 2 for index in faced])
        sources = [self.records[index]["source"] for index in faced]
        ages = [np.searchsorted(AGES, self.records[index].get("age", 0), "right") for index in faced]
        for labels in (list(zip(sources, ages, strict=True)), sources):
            _, group = np.unique(labels, return_inverse=True, axis=0)
            weight /= np.bincount(group, weight)[group]
        chance = np.cumsum(weight)
        return faced, chance / chance[-1]


def turn(landmarks: npt.NDArray[np.float64]) -> float:
    """Return how far a face with these landmarks (5, 2) looks aside: 0 from the front, near 0.5 in profile.

    The nose's distance from the line between the middles of eyes and mouth, against the face's size.
    """
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    down = mouth - eyes
    length = max(float(np.hypot(*down)), 1e-6)
    size = max(length, float(np.hypot(*(landmarks[1] - landmarks[0]))))
    aside = np.array([-down[1], down[0]]) / length @ (landmarks[2] - (eyes + mouth) / 2)
    return abs(float(aside)) / size


def open_set(data: Path, name: str, cache: Path) -> Pictures:
    """Open the set ``data/name.{bin,jsonl}``, decoding it into ``cache`` on first use."""
    lines = [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()]
    key = hashlib.sha256((data / f"{name}.jsonl").read_bytes()).hexdigest()[:16]
    start = 0
    for line in lines:
        size = line["size"]
        line["size"] = size if isinstance(size, list) else [size, size]
        line["store"], line["start"] = 0, start
        start += line["size"][0] * line["size"][1] * 3
    store = cache / f"{name}-{key}.rgb"
    if not store.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = store.with_suffix(f".{os.getpid()}.part")
        encoded = (data / f"{name}.bin").read_bytes()
        with partial.open("wb") as file:
            for line in lines:
                picture = Image.open(io.BytesIO(encoded[line["off"] : line["off"] + line["len"]]))
                file.write(picture.convert("RGB").tobytes())
        partial.rename(store)
    return Pictures([np.memmap(store, np.uint8, "r")], lines)


def open_sets(data: Path, pattern: str, cache: Path) -> Pictures:
    """Open every set whose name matches ``pattern`` as one."""
    sets = [open_set(data, path.stem, cache) for path in sorted(data.glob(f"{pattern}.jsonl"))]
    return Pictures(
        [store for part in sets for store in part.stores],
        [{**record, "store": i} for i, part in enumerate(sets) for record in part.records],
    )
