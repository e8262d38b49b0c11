"""Other formats, through Pillow, each at the settings of a patient user."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Peer:
    """A format: what Pillow calls it, the settings that hold for all files, and the sweep of the others."""

    title: str
    format: str
    settings: dict[str, Any]
    sweep: tuple[dict[str, Any], ...]

    def files(self, pixels: Pixels) -> Iterator[tuple[str, int, Pixels]]:
        """Yield the setting, the bytes of the whole file and the decoded picture of each step."""
        image = Image.fromarray(pixels)
        for step in self.sweep:
            buffer = io.BytesIO()
            image.save(buffer, self.format, **self.settings, **step)
            size = buffer.tell()
            setting = " ".join(f"{key}={value}" for key, value in step.items())
            yield setting, size, np.asarray(Image.open(buffer).convert("RGB"))


def _qualities(*values: int, **more: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"quality": value, **more} for value in values)


PEERS = {
    "jpeg": Peer(
        "JPEG",
        "JPEG",
        {"optimize": True},  # progressive files are larger at these sizes (measured)
        _qualities(2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 88, 94, 97)
        + _qualities(40, 60, 80, 90, 95, 98, subsampling="4:4:4"),
    ),
    "jpeg2000": Peer(
        "JPEG 2000",
        "JPEG2000",
        {"irreversible": True, "no_jp2": True, "mct": 1, "quality_mode": "dB"},
        tuple({"quality_layers": [level]} for level in range(22, 47, 2)),
    ),
    "webp": Peer(
        "WebP", "WEBP", {"method": 6}, _qualities(0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 86, 92, 96, 100)
    ),
    "avif": Peer("AVIF", "AVIF", {"speed": 4}, _qualities(0, 8, 20, 35, 50, 65, 80)),
}
"""By the names of the command line."""
