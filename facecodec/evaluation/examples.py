"""A few pictures to look at: every codec at equal bytes, and one of our files cut at many sizes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from facecodec import codec, encoder, files, images
from facecodec.errors import FscError
from facecodec.evaluation import peers, quality
from facecodec.evaluation.peers import OURS, Peer
from facecodec.evaluation.pictures import Entry

Pixels = npt.NDArray[np.uint8]

NAME = "examples"
PICTURES = 4
BITS = (0.25, 0.5)
"""Bits a pixel at which the codecs are shown."""
CUTS = 24
LONGEST = 384
"""Pixels of the long side, as shown; coded is the whole picture."""


def write(out: Path, entries: Sequence[Entry], others: Sequence[Peer]) -> None:
    """Write examples of some of the pictures into a folder, listed in ``examples.json``."""
    folder = out / NAME
    folder.mkdir(parents=True, exist_ok=True)
    count = min(PICTURES, len(entries))
    chosen = [entries[(2 * i + 1) * len(entries) // (2 * count)] for i in range(count)]
    rows: list[dict[str, Any]] = []
    slider: dict[str, Any] = {}
    for number, entry in enumerate(chosen):
        pixels = entry.pixels()
        full = encoder.encode(pixels, quality=100, no_face="encode")
        original = _kept(folder, f"{number}-original", pixels)
        budgets = [round(bits * pixels.shape[0] * pixels.shape[1] / 8) for bits in BITS]
        fitted = {peer.name: peers.fitted(peer, pixels, budgets) for peer in others}
        for column, budget in enumerate(budgets):
            cells = {OURS: _ours(full, budget)} | {name: found[column] for name, found in fitted.items()}
            rows.append(
                {
                    "id": entry.id,
                    "budget": budget,
                    "original": original,
                    "codecs": {
                        name: _cell(folder, f"{number}-{name}-{budget}", pixels, cell)
                        for name, cell in cells.items()
                    },
                }
            )
        if not slider:
            slider = {"id": entry.id, "original": original, "frames": _frames(folder, full, pixels)}
    listed = json.dumps({"rows": rows, "slider": slider}, indent=2) + "\n"
    files.write_atomic(out / f"{NAME}.json", listed.encode(), force=True)


def _ours(full: bytes, budget: int) -> tuple[int, Pixels] | None:
    """Return the size and the picture of our file within a budget, None where not even the faces fit."""
    try:
        short = codec.truncate(full, budget)
    except FscError:
        return None
    return len(short), codec.decode(short).pixels


def _frames(folder: Path, full: bytes, pixels: Pixels) -> list[dict[str, Any]]:
    """Return our file cut at sizes from the base layer to its end."""
    base = codec.strip(full, "base")
    frames = []
    for size in np.geomspace(len(base), len(full), CUTS).round().astype(int):
        short = codec.truncate(full, int(size))
        cell = _cell(folder, f"cut-{len(short)}", pixels, (len(short), codec.decode(short).pixels))
        if cell and cell not in frames:
            frames.append(cell)
    return frames


def _cell(folder: Path, name: str, pixels: Pixels, cell: tuple[int, Pixels] | None) -> dict[str, Any] | None:
    if not cell:
        return None
    size, decoded = cell
    psnr = quality.psnr(pixels, decoded)
    return {
        "file": _kept(folder, name, decoded),
        "bytes": size,
        "psnr": psnr if np.isfinite(psnr) else None,
        "ms_ssim": quality.ms_ssim(pixels, decoded),
    }


def _kept(folder: Path, name: str, pixels: Pixels) -> str:
    """Write a picture, reduced where it is large, and return its name in the folder above."""
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    path = folder / f"{name}.webp"
    files.write_atomic(path, images.to_bytes(np.asarray(image), ".webp"), force=True)
    return f"{folder.name}/{path.name}"
