"""The neural codec that ours is compared with: files made by what ``fsc train hyperprior`` has trained."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from facecodec import rans
from facecodec.errors import FscError
from facecodec.networks.hyperprior import LEAST_SCALE, RATES, STRIDE, TOP, Hyperprior

STEPS = 8
"""Settings of the ladder from one rate that was trained to the next."""
LARGEST_SCALE = 256.0
SCALES = np.geomspace(LEAST_SCALE, LARGEST_SCALE, 64)
_HEADER = struct.Struct("<BHH")
Integers = npt.NDArray[Any]


@dataclass(frozen=True)
class Neural:
    """A mean-scale hyperprior as a codec; whole files are a setting, two sides and one rANS stream.

    ``steps``: how far its run had come.  Its networks are of floats, so files are for the machine that made
    them.
    """

    checkpoint: Path
    steps: int
    name: str = "hyperprior"
    title: str = "mean-scale hyperprior"

    @property
    def ladder(self) -> Sequence[int]:
        """Its settings, from the smallest file to the best picture."""
        return range(STEPS * (RATES - 1) + 1)

    @property
    def sweep(self) -> Sequence[int]:
        """Those that draw its curve of rate and distortion."""
        return self.ladder[:: STEPS // 2]

    @torch.inference_mode()
    def encode(self, image: Image.Image, setting: int) -> bytes:
        """Return the whole file of a picture in mode RGB or L."""
        model = _model(self.checkpoint)
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float()
        gain, _ = model.gains(_rate(setting))
        latent = model.analysed(_padded(pixels), gain)
        middle, spread = model.hyper()
        hyper = _coded(model.h_a(latent).float() - middle)
        mean, scale = model.expected(hyper + middle)
        groups = [*_groups(hyper, spread), *_groups(_coded(latent - mean), scale)]
        return _HEADER.pack(setting, *image.size) + rans.encode(groups)

    @torch.inference_mode()
    def decode(self, data: bytes) -> Image.Image:
        """Return the picture of a file in mode RGB."""
        model = _model(self.checkpoint)
        setting, width, height = _HEADER.unpack_from(data)
        decoder = rans.Decoder(data[_HEADER.size :])
        _, back = model.gains(_rate(setting))
        middle, spread = model.hyper()
        rows, columns = (-(-side // STRIDE) for side in (height, width))
        hyper = _read(decoder, spread.expand(1, -1, rows, columns))
        mean, scale = model.expected(hyper + middle)
        latent = _read(decoder, scale) + mean
        decoder.finish()
        picture = model.synthesised(latent, back)[0, :, :height, :width]
        return Image.fromarray(picture.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())

    def timed(self) -> float:
        """Return the seconds of the clock that time this codec."""
        return time.process_time()


def neural(checkpoint: Path) -> Neural:
    """Return the codec of a run's checkpoint; raises FscError."""
    try:
        _model(checkpoint)
        with safe_open(checkpoint, "pt") as file:
            return Neural(checkpoint, int(file.metadata()["step"]))
    except (OSError, RuntimeError, SafetensorError):
        raise FscError(f"{checkpoint} is no checkpoint of fsc train hyperprior") from None


@lru_cache(maxsize=1)
def _model(checkpoint: Path) -> Hyperprior:
    model = Hyperprior()
    kept = load_file(checkpoint).items()
    averaged = {k.removeprefix("averaged."): v for k, v in kept if k.startswith("averaged.")}
    model.load_state_dict(averaged)
    return model.eval()


def _rate(setting: int) -> Tensor:
    return torch.tensor([setting / STEPS])


def _padded(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[2:]
    return F.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")


def _coded(off: Tensor) -> Tensor:
    return off.round().clamp(-TOP, TOP)


@lru_cache(maxsize=1)
def _tables() -> list[rans.Table]:
    """Return a table of -TOP..TOP for each of SCALES."""
    edges = torch.arange(-TOP, TOP + 2) - 0.5
    below = torch.special.ndtr(edges / torch.from_numpy(SCALES)[:, None])
    shares = below.diff().numpy()
    frequencies = np.floor(shares * (1 << rans.MAX_PRECISION)).astype(np.int64)
    frequencies[:, TOP] += (1 << rans.MAX_PRECISION) - frequencies.sum(1)
    return [rans.Table(row) for row in frequencies]


def _by_table(scale: Tensor) -> tuple[Integers, Integers]:
    """Return the order in which values with these scales are coded, and how many with each table."""
    bounds = np.sqrt(SCALES[1:] * SCALES[:-1])
    named = np.searchsorted(bounds, scale.numpy().ravel())
    return np.argsort(named, kind="stable"), np.bincount(named, minlength=len(SCALES))


def _groups(values: Tensor, scale: Tensor) -> list[rans.Group]:
    order, counts = _by_table(scale.expand_as(values))
    symbols = values.numpy().ravel()[order].astype(np.int32) + TOP
    parts = np.split(symbols, np.cumsum(counts)[:-1])
    return list(zip(parts, _tables(), strict=True))


def _read(decoder: rans.Decoder, scale: Tensor) -> Tensor:
    order, counts = _by_table(scale)
    values = np.empty(order.size, np.float32)
    taken = [decoder.take(int(count), table) for count, table in zip(counts, _tables(), strict=True)]
    values[order] = np.concatenate(taken) - TOP
    return torch.from_numpy(values.reshape(scale.shape))
