"""The float networks of the encoder, loaded from weight files: faces to codes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec import faces, weights
from facecodec.errors import WeightsError
from facecodec.networks.eight_bits import EightBits, supported
from facecodec.networks.embedding import Trunk
from facecodec.networks.precision import reduced
from facecodec.networks.preview import APPEARANCE_TOP, Appearance
from facecodec.networks.restoration import restored

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]
Show = Callable[[Codes], Pixels]

CODE_TOP = 15
BATCH = 16


@dataclass(frozen=True, eq=False)
class FaceEncoder:
    """Aligned faces to embeddings, wide views to appearance codes.

    ``step`` is the quantisation step of unit embeddings for which the tables of identity codes were made, and
    ``base`` the id of the base model that both are for.
    """

    trunk: Callable[[Tensor], Tensor]
    appearance: Appearance
    step: float
    base: bytes

    @torch.inference_mode()
    def embed(self, views: Pixels) -> Floats:
        """Return float embeddings (N, 256) of unit norm from aligned faces uint8 (N, 112, 112, 3).

        A dark face is brightened first, and a blurred one sharpened.
        """
        parts = np.array_split(views, max(1, -(-len(views) // BATCH)))
        return F.normalize(torch.cat(_side_by_side(self._embed, parts))).numpy()

    @torch.inference_mode()
    def _embed(self, views: Pixels) -> Tensor:
        return self.trunk(_planes(restored(views))).float()

    @torch.inference_mode()
    def codes(self, wide: Pixels, show: Show) -> Codes:
        """Return appearance codes (N, 256) from wide views uint8 (N, 64, 64, 3).

        ``show`` turns such codes into previews like ``wide``; the codes make up for what previews of those of
        ``wide`` itself lack.
        """
        wanted = self.appearance(_batch(wide)).numpy()
        codes = quantised(wanted, APPEARANCE_TOP)
        lacking = wanted - self.appearance(_batch(show(codes))).numpy()
        return quantised(codes + lacking, APPEARANCE_TOP)


def quantised(values: Floats, top: int) -> Codes:
    """Return values rounded half up to codes of magnitude ``top`` at most."""
    codes: Codes = np.clip(np.floor(values + 0.5), -top, top).astype(np.int32)
    return codes


def views(pixels: Pixels, matrices: list[npt.NDArray[np.float64]]) -> tuple[Pixels, Pixels]:
    """Return aligned faces (N, 112, 112, 3) and wide views (N, 64, 64, 3) of a picture, one a similarity."""
    near = [faces.crop(pixels, matrix, faces.FRAME) for matrix in matrices]
    wide = [faces.crop(pixels, matrix, faces.WIDE_PIXELS, faces.WIDE_EXTENT) for matrix in matrices]
    return np.array(near), np.array(wide)


def _side_by_side(work: Callable[[Pixels], Tensor], parts: list[Pixels]) -> list[Tensor]:
    """Return what ``work`` makes of each part, as many at a time as torch may use threads.

    Threads that share each operation wait for one another at its end, very long where other programs run; and
    on some processors their number decides how results are rounded.  So each part has one.
    """
    threads = torch.get_num_threads()
    try:
        if len(parts) == 1:
            torch.set_num_threads(1)
            return [work(parts[0])]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)


def _planes(views: Pixels) -> Tensor:
    """Return uint8 (N, 3, H, W), channels last, of uint8 (N, H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2)


def _batch(views: Pixels) -> Tensor:
    return _planes(views).float().contiguous(memory_format=torch.channels_last)


def face_encoder(name: str) -> FaceEncoder:
    """Return the encoder of faces whose weights are ``name``; raises WeightsError."""
    return _face_encoder(weights.load(name))


@cache
def _face_encoder(file: weights.Model) -> FaceEncoder:
    trunk, appearance = Trunk(), Appearance()
    _fill(trunk, file, "trunk.")
    _fill(appearance, file, "appearance.")
    tops = torch.from_numpy(file["tops"])
    fast = EightBits(trunk, tops) if supported() else partial(_in_float, trunk)
    return FaceEncoder(fast, appearance, float(file["step"][0]), file["base"].tobytes())


def _in_float(trunk: Trunk, faces: Tensor) -> Tensor:
    """Return embeddings (N, 256) of faces uint8 (N, 3, 112, 112)."""
    with reduced():
        embedding: Tensor = trunk(faces.float())[0]
    return embedding


def state(file: weights.Model, prefix: str) -> dict[str, Tensor]:
    """Return the float tensors of a file whose names begin with ``prefix``, without it."""
    tensors = {}
    for key, value in file.tensors.items():
        if key.startswith(prefix) and not key.endswith(".unit"):
            short = value.dtype in (np.float16, np.int8)
            tensor = torch.from_numpy(value.astype(np.float32) if short else value)
            unit = file.tensors.get(f"{key}.unit")
            tensors[key.removeprefix(prefix)] = tensor if unit is None else tensor * torch.from_numpy(unit)
    return tensors


def _fill(model: nn.Module, file: weights.Model, prefix: str) -> None:
    """Load the tensors of a file that begin with ``prefix``, and make the network ready for use."""
    try:
        model.load_state_dict(state(file, prefix))
    except RuntimeError as error:
        raise WeightsError(f"{file.name} is not for this network: {error}") from None
    model.eval().requires_grad_(False)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
