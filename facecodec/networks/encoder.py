"""The float networks of the encoder, loaded from weight files: faces to codes, pictures to latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facecodec import exact, faces, weights
from facecodec.networks.embedding import Trunk
from facecodec.networks.preview import AppearanceAnalysis
from facecodec.networks.texture import Analysis

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CODE_TOP = 15
TILE = 512
HALO = 256
BATCH = 64


@dataclass(frozen=True, eq=False)
class FaceEncoder:
    """Aligned faces to embeddings and codes; ``step`` is the quantisation step of a unit embedding."""

    trunk: Trunk
    appearance: AppearanceAnalysis
    step: float
    order: npt.NDArray[np.int64]

    @torch.inference_mode()
    def embed(self, views: Pixels) -> Floats:
        """Return float embeddings (N, 256) of unit norm from aligned faces uint8 (N, 112, 112, 3)."""
        return F.normalize(torch.cat([self.trunk(x)[0] for x in _batch(views).split(BATCH)])).numpy()

    @torch.inference_mode()
    def codes(self, views: Pixels, wide: Pixels) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return identity codes (N, 256) and appearance codes (N, 128).

        From aligned faces uint8 (N, 112, 112, 3) and wide views uint8 (N, 64, 64, 3).
        """
        embedding, features = self.trunk(_batch(views))
        appearance = self.appearance(_batch(wide), features).float().numpy()[:, self.order]
        return quantised(F.normalize(embedding.float()).numpy() / self.step), quantised(appearance)


def quantised(values: Floats) -> npt.NDArray[np.int32]:
    """Return values rounded half up to codes -15..15."""
    codes: npt.NDArray[np.int32] = np.clip(np.floor(values + 0.5), -CODE_TOP, CODE_TOP).astype(np.int32)
    return codes


def views(pixels: Pixels, matrices: list[npt.NDArray[np.float64]]) -> tuple[Pixels, Pixels]:
    """Return aligned faces (N, 112, 112, 3) and wide views (N, 64, 64, 3) of a picture, one a similarity."""
    near = [faces.crop(pixels, matrix, faces.FRAME) for matrix in matrices]
    wide = [faces.crop(pixels, matrix, faces.WIDE_PIXELS, faces.WIDE_EXTENT) for matrix in matrices]
    return np.array(near), np.array(wide)


@torch.inference_mode()
def analyse(analysis: Analysis, picture: Pixels, prediction: Pixels) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Return latents y (128, H/16, W/16) and hyper-latent codes z (64, H/64, W/64) of a padded picture.

    Works in tiles; at their seams the latents differ from those of the whole picture by less than a rounding.
    """
    both = np.concatenate([picture, prediction], 2).transpose(2, 0, 1)[None]

    def tile(blocks: npt.NDArray[np.uint8]) -> Floats:
        pixels = torch.from_numpy(exact.depth_to_space(blocks, 64)).float()
        y, z = analysis(pixels[:, :3], pixels[:, 3:])
        return torch.cat([F.pixel_unshuffle(y, 4), z], 1).numpy()

    packed = exact.tiled(tile, [exact.space_to_depth(both, 64)], tile=TILE // 64, halo=HALO // 64, scales=[1])
    y, z = packed[:, :-64], packed[0, -64:]
    return exact.depth_to_space(y, 4)[0], quantised(z)


def _batch(views: Pixels) -> Tensor:
    batch = torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2).float()
    return batch.contiguous(memory_format=torch.channels_last)


def _loaded(model: nn.Module, tensors: dict[str, npt.NDArray[Any]]) -> None:
    model.load_state_dict(
        {
            k: torch.from_numpy(v.astype(np.float32) if v.dtype == np.float16 else v)
            for k, v in tensors.items()
        }
    )
    model.eval().requires_grad_(False)
    fuse(model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fuse(model: nn.Module) -> None:
    """Fold every batch normalisation that follows a convolution into it."""
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
            setattr(model, name, fuse_conv_bn_eval(child[0], child[1]))  # type: ignore[type-var]
        else:
            fuse(child)


@cache
def face_encoder(name: str) -> FaceEncoder:
    """Return the encoder of faces whose weights are ``name``; raises WeightsError."""
    tensors = dict(weights.load(name).tensors)
    step, order = float(tensors.pop("step")[0]), tensors.pop("order").astype(np.int64)
    trunk, appearance = Trunk(), AppearanceAnalysis()
    _loaded(trunk, _under(tensors, "trunk."))
    _loaded(appearance, _under(tensors, "appearance."))
    return FaceEncoder(trunk, appearance, step, order)


@cache
def texture_analysis(name: str) -> Analysis:
    """Return the analysis of pictures whose weights are ``name``; raises WeightsError."""
    analysis = Analysis()
    _loaded(analysis, weights.load(name).tensors)
    return analysis


def _under(tensors: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
