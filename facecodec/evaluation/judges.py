"""Recognisers, which say who is still to be recognised in a decoded picture."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from facecodec import faces, files, weights
from facecodec.errors import FscError, WeightsError
from facecodec.networks.encoder import face_encoder

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

OWN = "own"
"""The name of this codec's own embedding as a judge."""


class Judge(Protocol):
    """A recogniser of faces that are aligned to the five-point template."""

    def look(self, views: Pixels) -> Floats:
        """Return embeddings (N, D) of aligned faces uint8 RGB (N, 112, 112, 3)."""
        ...


def embed(judge: Judge, pictures: list[Pixels], matrix: Matrix) -> Floats:
    """Return unit embeddings (N, D) of one face in several versions of a picture.

    ``matrix`` (2, 3) maps the recognition frame to the picture, between pixel centres at whole numbers.
    """
    views = np.array([faces.crop(pixels, matrix, faces.FRAME) for pixels in pictures])
    found = np.asarray(judge.look(views), np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12), np.float32)


@dataclass(frozen=True, eq=False)
class TorchJudge:
    """A TorchScript module from float RGB 0..255 (N, 3, 112, 112)."""

    module: torch.jit.ScriptModule

    @torch.inference_mode()
    def look(self, views: Pixels) -> Floats:
        """Return embeddings (N, D) of aligned faces uint8 RGB (N, 112, 112, 3)."""
        found: Floats = self.module(torch.from_numpy(views).permute(0, 3, 1, 2).float()).numpy()
        return found


@dataclass(frozen=True, eq=False)
class OnnxJudge:
    """An ONNX network from float RGB -1..1, (x - 127.5) / 127.5, (1, 3, 112, 112), as ArcFace models are."""

    session: Any

    def look(self, views: Pixels) -> Floats:
        """Return embeddings (N, D) of aligned faces uint8 RGB (N, 112, 112, 3)."""
        name = self.session.get_inputs()[0].name
        scaled = (views.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
        return np.concatenate(
            [np.reshape(self.session.run(None, {name: x[None]})[0], (1, -1)) for x in scaled]
        )


class OwnJudge:
    """The embedding of this codec: no independent witness."""

    def look(self, views: Pixels) -> Floats:
        """Return embeddings (N, D) of aligned faces uint8 RGB (N, 112, 112, 3)."""
        return face_encoder(weights.newest("trunk")).embed(views)


@cache
def load(name: str) -> Judge:
    """Return the recogniser of a TorchScript or ``.onnx`` file, or ``own``; raises FscError."""
    if name == OWN:
        return OwnJudge()
    files.read(Path(name))
    return _onnx(name) if Path(name).suffix == ".onnx" else _torch(name)


def identity(name: str) -> str:
    """Return what tells judges apart: the SHA-256 of the file, or ``own``."""
    return name if name == OWN else hashlib.sha256(files.read(Path(name))).hexdigest()


def _torch(name: str) -> TorchJudge:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(name, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise WeightsError(f"{name} is no TorchScript recogniser") from error
    return TorchJudge(module.float().eval())


def _onnx(name: str) -> OnnxJudge:
    try:
        import onnxruntime
    except ImportError as error:
        raise FscError(f"{name} needs the Python package onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return OnnxJudge(onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"]))
    except Exception as error:  # onnxruntime's errors derive from nothing else
        raise WeightsError(f"{name} is no ONNX recogniser") from error
