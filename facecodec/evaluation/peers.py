"""Other codecs: swept over their qualities, and fitted to a number of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from facecodec.errors import FscError
from facecodec.evaluation.external import external
from facecodec.evaluation.formats import FORMATS, present
from facecodec.evaluation.neural import neural

Pixels = npt.NDArray[np.uint8]

OURS = "fsc"
"""The name of this codec among its peers."""


@dataclass(frozen=True, eq=False)
class File:
    """A whole file of ``size`` bytes made with a ``setting``, and the uint8 RGB picture it decodes to.

    Times are of the processor, but of the clock for external commands.
    """

    setting: str
    size: int
    pixels: Pixels
    encode_ms: float
    decode_ms: float


class Peer(Protocol):
    """A codec with a quality: ``ladder`` holds its settings from the smallest file to the best picture.

    ``sweep`` are those that draw its curve of rate and distortion.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def ladder(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def sweep(self) -> Sequence[Any]: ...  # noqa: D102

    def encode(self, image: Image.Image, setting: Any) -> bytes:
        """Return the whole file of a picture in mode RGB or L."""
        ...

    def decode(self, data: bytes) -> Image.Image:
        """Return the picture of a file in mode RGB."""
        ...

    def timed(self) -> float:
        """Return the seconds of the clock that time this codec."""
        ...


def chosen(
    names: Sequence[str], externals: Sequence[str] = (), checkpoints: Sequence[Path] = ()
) -> tuple[Peer, ...]:
    """Return formats by name, external codecs by description, neural ones by checkpoint; raises FscError."""
    for name in names:
        if name not in FORMATS:
            raise FscError(f"{name} is no format known here: {', '.join(FORMATS)}")
        if name not in present():
            raise FscError(f"{name} needs the Python package {FORMATS[name].plugin}")
    formats = (FORMATS[name] for name in names)
    peers: tuple[Peer, ...] = (*formats, *map(external, externals), *map(neural, checkpoints))
    names = [OURS, *(peer.name for peer in peers)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise FscError(f"{', '.join(sorted(twice))}: each codec needs a name of its own")
    return peers


@dataclass(frozen=True)
class Variant:
    """What is done to a picture before it is coded, and undone afterwards: sides scaled, colour dropped."""

    scale: float = 1.0
    grey: bool = False

    @property
    def title(self) -> str:
        """What reports call it."""
        size = "full size" if self.scale == 1 else f"{100 * self.scale:.3g} % a side"
        return f"{size}, {'grey' if self.grey else 'colour'}"

    def before(self, pixels: Pixels) -> Image.Image:
        """Return the picture that is coded."""
        image = Image.fromarray(pixels)
        if self.grey:
            image = image.convert("L")
        if self.scale == 1:
            return image
        size = tuple(max(1, round(side * self.scale)) for side in image.size)
        return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)

    def after(self, image: Image.Image, width: int, height: int) -> Pixels:
        """Return a decoded picture (mode RGB) in the size of its original, uint8 RGB (H, W, 3)."""
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


AS_IT_IS = Variant()


def sweep(peer: Peer, pixels: Pixels) -> Iterator[File]:
    """Yield the files of a picture with all settings of a peer's sweep."""
    image = Image.fromarray(pixels)
    for setting in peer.sweep:
        start = peer.timed()
        data = peer.encode(image, setting)
        middle = peer.timed()
        decoded = peer.decode(data)
        spent = 1000 * (middle - start), 1000 * (peer.timed() - middle)
        yield File(_named(setting), len(data), np.asarray(decoded), *spent)


def fitted(
    peer: Peer, pixels: Pixels, budgets: Sequence[int], variant: Variant = AS_IT_IS
) -> list[tuple[int, Pixels] | None]:
    """Return size and decoded picture of the best file within each budget of bytes, None where none is.

    Whole files count.  The best has the highest setting of the ladder that fits, found by halving: sizes are
    taken to grow along it.
    """
    image = variant.before(pixels)
    height, width = pixels.shape[:2]

    @cache
    def coded(step: int) -> bytes:
        return peer.encode(image, peer.ladder[step])

    @cache
    def decoded(step: int) -> Pixels:
        return variant.after(peer.decode(coded(step)), width, height)

    found: list[tuple[int, Pixels] | None] = []
    for budget in budgets:
        low, high = 0, len(peer.ladder)
        while low < high:
            middle = (low + high) // 2
            if len(coded(middle)) <= budget:
                low = middle + 1
            else:
                high = middle
        found.append((len(coded(low - 1)), decoded(low - 1)) if low else None)
    return found


def _named(setting: Any) -> str:
    if isinstance(setting, dict):
        return " ".join(f"{key}={value}" for key, value in setting.items())
    return f"quality={setting}"
