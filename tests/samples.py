"""Pictures and weights that several tests share."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"


@cache
def portrait(side):
    """Return the face of the example portrait, uint8 (side, side, 3)."""
    with Image.open(ASTRONAUT) as image:
        face = image.convert("RGB").crop((140, 0, 340, 200)).resize((side, side), Image.Resampling.LANCZOS)
        return np.array(face)


def noise(height, width, seed=0):
    """Return pixels without any pattern, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def waves(height, width, seed=0):
    """Return smooth colours with a little noise, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None]
    rates, phases = rng.uniform(0.01, 0.2, (2, 3)), rng.uniform(0, 6, 3)
    colours = 127 + 90 * np.sin(rates[0] * x + rates[1] * y + phases) + rng.normal(0, 4, (height, width, 3))
    return colours.clip(0, 255).astype(np.uint8)


def install(folder, models):
    """Write the tensors of each model (by name) and their list into a folder of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, tensors in models.items():
        data = save({key: np.ascontiguousarray(value) for key, value in tensors.items()})
        (folder / f"{name}.safetensors").write_bytes(data)
        lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}.safetensors\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder
