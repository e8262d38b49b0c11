"""Recognisers of others, which say who is still to be recognised in a decoded picture."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from facecodec import faces, files
from facecodec.errors import WeightsError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judge:
    """A recogniser: float RGB 0..255 (N, 3, 112, 112), aligned to the five-point template, to embeddings."""

    module: torch.jit.ScriptModule

    @torch.inference_mode()
    def embed(self, pictures: list[Pixels], matrix: npt.NDArray[np.float64]) -> Floats:
        """Return unit embeddings (N, D) of one face in several versions of a picture.

        ``matrix`` (2, 3) maps the recognition frame to the picture, between pixel centres at whole numbers.
        """
        views = np.array([faces.crop(pixels, matrix, faces.FRAME) for pixels in pictures])
        batch = torch.from_numpy(views).permute(0, 3, 1, 2).float()
        return np.asarray(torch.nn.functional.normalize(self.module(batch)).numpy(), np.float32)


@cache
def load(path: Path) -> Judge:
    """Return the TorchScript recogniser of a file; raises FscError or WeightsError."""
    files.read(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise WeightsError(f"{path} is no TorchScript recogniser") from error
    return Judge(module.float().eval())
