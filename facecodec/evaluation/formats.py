"""File formats of others, through Pillow, each at the settings of a patient user."""

from __future__ import annotations

import importlib
import io
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Format:
    """A format of Pillow: its name there, options of all files, of one step, and of grey ones."""

    name: str
    title: str
    format: str
    options: dict[str, Any]
    ladder: tuple[dict[str, Any], ...]
    sweep: tuple[dict[str, Any], ...]
    grey: dict[str, Any] = field(default_factory=dict)
    plugin: str = ""

    def encode(self, image: Image.Image, setting: dict[str, Any]) -> bytes:
        """Return the whole file of a picture in mode RGB or L."""
        self._ready()
        buffer = io.BytesIO()
        more = self.grey if image.mode == "L" else {}
        image.save(buffer, self.format, **self.options | setting | more)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        """Return the picture of a file in mode RGB."""
        self._ready()
        return Image.open(io.BytesIO(data)).convert("RGB")

    def timed(self) -> float:
        """Return the seconds of the clock that time this codec."""
        return time.process_time()

    def _ready(self) -> None:
        if self.plugin:
            importlib.import_module(self.plugin)


def _qualities(*values: int, **more: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"quality": value, **more} for value in values)


def _levels(*values: float) -> tuple[dict[str, Any], ...]:
    return tuple({"quality_layers": [value]} for value in values)


FORMATS = {
    form.name: form
    for form in (
        Format(
            "jpeg",
            "JPEG",
            "JPEG",
            {"optimize": True},  # progressive files are larger at these sizes (measured)
            _qualities(*range(1, 96)),
            _qualities(2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 88, 94, 97)
            + _qualities(40, 60, 80, 90, 95, 98, subsampling="4:4:4"),
        ),
        Format(
            "jpeg2000",
            "JPEG 2000",
            "JPEG2000",
            {"irreversible": True, "no_jp2": True, "mct": 1, "quality_mode": "dB"},
            _levels(*(12 + step / 4 for step in range(161))),
            _levels(*range(22, 47, 2)),
            {"mct": 0},
        ),
        Format(
            "webp",
            "WebP",
            "WEBP",
            {"method": 6},
            _qualities(*range(101)),
            _qualities(0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 86, 92, 96, 100),
        ),
        Format(
            "avif",
            "AVIF",
            "AVIF",
            {"speed": 4, "max_threads": 1},
            _qualities(*range(101)),
            _qualities(0, 8, 20, 35, 50, 65, 80),
            {"subsampling": "4:0:0"},
        ),
        Format(
            "jpegxl",
            "JPEG XL",
            "JXL",
            {"effort": 7, "num_threads": 1},
            _qualities(*range(100)),
            _qualities(0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 88, 94),
            plugin="pillow_jxl",
        ),
    )
}
"""By the names of the command line."""


def present() -> tuple[str, ...]:
    """Return the names of the formats that this installation can write."""
    return tuple(name for name, form in FORMATS.items() if not form.plugin or find_spec(form.plugin))
