"""Train the texture networks: one model for all rates.

Every picture of a batch draws its own quantisation step 81^u, the depth at which its embedded stream is cut,
and is charged bits + lambda * squared error with lambda = FINEST / step^2, the exchange rate at which that
step is optimal for an orthonormal transform (36 / (2 ln 2 * 4^2) at the finest).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec import enhancement, weights
from facecodec.enhancement import Order
from facecodec.entropy import Trees
from facecodec.errors import WeightsError
from facecodec.geometry import CELLS
from facecodec.networks import encoder
from facecodec.networks.quantised import set_rounding, thaw
from facecodec.networks.texture import (
    BLOCK,
    DEPTH_TOP,
    DEPTHS_PER_OCTAVE,
    HYPER_TOP,
    LATENT_STEP,
    UNITS,
    WIDER,
    Texture,
)
from facecodec.training import trees
from facecodec.training.data import Pictures, open_sets
from facecodec.training.run import Run
from facecodec.training.views import previews, wide_to_picture

SIDE = 128
BATCH = 12
RATE = 4e-4
MATRIX_RATE = 0.005
FINEST = 1.6
COARSEST = 81.0
BLOCKS_BATCHES = 40
CROP_BATCHES = 80
SCENES = 2
SYNTHESIS_SHARE = 0.2
REGIONAL = 1 / 3
LATEST = 30
LOG_STEPS = 100
EVALUATE_STEPS = 2000
ROUNDING_FROM = 0.7
SHARE = {"utkface": 0.6, "celebahq": 6.0, "celebatoy": 4.0, "imagenet-sample": 1.5, "bsds500": 1.5}
"""Chance of a source relative to the sharp portraits, so that detail and variety decide."""


class Crops:
    """Random crops with the prediction that the base layer would give for them."""

    def __init__(self, pictures: Pictures, shown: np.ndarray, seed: int | list[int]) -> None:
        """Draw from ``pictures``; ``shown`` are their previews, uint8 (N, 64, 64, 3)."""
        self.pictures = pictures
        self.shown = shown
        self.rng = np.random.default_rng(seed)
        weight = np.array([SHARE.get(record["source"], 2.0) for record in pictures.records])
        self.chance = weight / weight.sum()

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Return pictures and predictions, float (N, 3, 128, 128), 0..255."""
        pairs = [self.crop(int(i)) for i in self.rng.choice(len(self.pictures), count, p=self.chance)]
        both = torch.from_numpy(np.array(pairs)).permute(1, 0, 4, 2, 3).float()
        return both[0], both[1]

    def crop(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one uint8 crop (128, 128, 3) at a random scale, and its prediction."""
        rng = self.rng
        picture = self.pictures.picture(index)
        height, width = picture.shape[:2]
        side = int(rng.integers(SIDE, min(height, width) + 1)) if rng.random() < 0.7 else SIDE
        left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        view = np.ascontiguousarray(picture[top : top + side, left : left + side])
        if side != SIDE:
            view = np.asarray(cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        if not self.pictures.records[index]["faces"] or rng.random() < 0.08:
            prediction = np.full_like(view, 128)
        else:
            matrix = wide_to_picture(self.pictures.landmarks(index))
            scale = SIDE / side
            matrix = np.column_stack(
                [matrix[:, :2] * scale, (matrix[:, 2] - [left, top] + 0.5) * scale - 0.5]
            )
            shown = np.asarray(self.shown[index])
            warped = cv2.warpAffine(shown, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
            prediction = np.asarray(warped, np.uint8)
        if rng.random() < 0.5:
            view, prediction = view[:, ::-1], prediction[:, ::-1]
        return view, np.asarray(prediction)


def train(*, data: Path, runs: Path, minutes: float) -> None:
    """Train on sets ``train-*`` and ``scenes`` of ``data``, with the previews of the newest base weights.

    First all networks together; then, for the last share of the time, the synthesis alone learns from what
    decoders see: latents of streams that were cut, in the order of the trees that these latents have grown.
    """
    torch.manual_seed(0)
    cache = runs / "cache"
    model = Texture()
    known = warm(model)
    folder = runs / "texture"
    transforms = [model.analysis.linear.weight, model.synthesis.linear.weight]
    joint = Run(
        folder / "joint",
        model,
        minutes=(1 - SYNTHESIS_SHARE) * minutes,
        rate=RATE,
        matrix_rate=MATRIX_RATE,
        kernels=[p for p in model.parameters() if p.ndim == 4 and all(p is not t for t in transforms)],
        gentle=transforms,
    )
    before = joint.step
    learn(joint, data, cache, known=known)
    if joint.step > before:
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    model.load_state_dict(joint.averaged.state_dict())
    model.widen(WIDER)
    model.requires_grad_(False)
    model.synthesis.requires_grad_(True)
    model.synthesis.linear.requires_grad_(False)
    run = Run(
        folder,
        model,
        minutes=minutes - joint.seconds / 60,
        rate=RATE,
        matrix_rate=MATRIX_RATE,
        kernels=[p for p in model.parameters() if p.ndim == 4 and p.requires_grad],
    )
    learn_synthesis(run, data, cache)


class Draw:
    """Batches of crops, of which one in six is of a scene without a face that the base layer knows."""

    def __init__(self, data: Path, cache: Path, seed: list[int]) -> None:
        """Open the sets for training."""
        faces, scenes = open_sets(data, "train-*", cache), open_sets(data, "scenes", cache)
        blank = np.full((1, 64, 64, 3), 128, np.uint8)
        self.faces = Crops(faces, previews(faces, "train", cache), seed)
        self.scenes = Crops(scenes, np.broadcast_to(blank, (len(scenes), 64, 64, 3)), seed)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return pictures and predictions, float (12, 3, 128, 128), 0..255."""
        parts = zip(self.faces.batch(BATCH - SCENES), self.scenes.batch(SCENES), strict=True)
        pictures, predictions = (
            torch.cat(part).contiguous(memory_format=torch.channels_last) for part in parts
        )
        return pictures, predictions


def learn(run: Run[Texture], data: Path, cache: Path, *, known: bool) -> None:
    """Train all networks together; from fresh weights, unless ``known``, start with blocks' own axes."""
    model = run.model
    torch.manual_seed(run.step * 16 + run.worker)
    draw = Draw(data, cache, [run.step, run.worker])
    held_out = open_sets(data, "val", cache)
    validation = Crops(held_out, previews(held_out, "val", cache), 1).batch(48)
    if not (run.step or known):
        covariance = torch.zeros(3 * BLOCK**2, 3 * BLOCK**2, dtype=torch.float64)
        for _ in range(BLOCKS_BATCHES):
            pictures, predictions = draw.faces.batch(BATCH)
            blocks = (
                F.pixel_unshuffle(pictures - predictions, BLOCK).permute(0, 2, 3, 1).flatten(0, 2).double()
            )
            covariance += blocks.T @ blocks / len(blocks) / BLOCKS_BATCHES
        model.start_from(covariance)
        run.averaged.load_state_dict(model.state_dict())
    for step in run.steps():
        set_rounding(model, run.progress > ROUNDING_FROM)
        model.train()
        pictures, predictions = draw.batch()
        width = COARSEST ** ((torch.randperm(BATCH) + torch.rand(1)) / BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            decoded, bits = model(pictures, predictions, width)
        error = (decoded - pictures).square().mean((1, 2, 3))
        rate = bits / SIDE**2
        loss = ((rate + FINEST / width.square() * error) * width**0.7).mean()
        run.descend(loss, clip=2.0)
        run.note(loss=loss.item(), bits=rate.mean().item(), error=error.mean().item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log(
                **(evaluate(run.averaged, *validation) if step % EVALUATE_STEPS == EVALUATE_STEPS - 1 else {})
            )


def learn_synthesis(run: Run[Texture], data: Path, cache: Path) -> None:
    """Train the synthesis on cut streams; the trees of all other networks, which stay, are grown first."""
    model = run.model
    set_rounding(model, True)
    stream = Stream(tables(model.eval(), data, cache))
    torch.manual_seed(run.step * 16 + run.worker)
    draw = Draw(data, cache, [run.step, run.worker, 1])
    rng = np.random.default_rng([run.step, run.worker, 2])
    for step in run.steps():
        pictures, predictions = draw.batch()
        depth = np.round((rng.permutation(BATCH) + rng.random()) / BATCH * DEPTH_TOP).astype(int)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                y, z = model.analysis(pictures, predictions)
                at_8, at_16 = model.context(predictions)
                mean, index = model.prior(z.round().clamp(-HYPER_TOP, HYPER_TOP), at_16)
                y_hat, left = stream.cut(y, mean, index, depth, rng)
            decoded = model.synthesis(y_hat, predictions, at_8, at_16, left)
        width = torch.from_numpy(2 ** (depth / DEPTHS_PER_OCTAVE)).float()
        error = (decoded - pictures).square().mean((1, 2, 3))
        loss = (FINEST * error / width**1.3).mean()
        run.descend(loss, clip=2.0)
        run.note(loss=loss.item(), error=error.mean().item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


class Stream:
    """Latents as a decoder knows them when their stream was cut, by the frozen code itself."""

    def __init__(self, integers: dict[str, np.ndarray]) -> None:
        """Take what ``trees.tables`` gave."""
        grown = Trees.from_integers(
            *(integers[f"tree.{key}"] for key in ("frequencies", "value", "rank", "planes"))
        )
        regions = np.zeros((CELLS, CELLS), np.uint8)
        top, finest = integers["latent.top"].astype(np.int32), int(integers["finest"][0])
        self.model = enhancement.TextureModel("", b"", {}, (), grown, top, regions, finest, 0)

    def cut(
        self, y: Tensor, mean: Tensor, index: Tensor, depth: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return y_hat (N, C, h, w) and the depths (N, 1, h, w) of streams cut at these depths (N,).

        A third of them puts blocks off by random turns, as for recognition.
        """
        grown, values, left = self.model.trees, [], []
        for steps, before, scale, deep in zip(
            (y - mean).round().int().numpy(),
            (mean / LATENT_STEP).round().short().numpy(),
            index.byte().numpy(),
            depth.tolist(),
            strict=True,
        ):
            order = Order(int(rng.random() < REGIONAL))
            rows, columns = scale.shape[1:]
            put_off = rng.integers(0, LATEST + 1, (-(-rows // 2), -(-columns // 2)), np.uint8)
            delay = (put_off * order).repeat(2, 0).repeat(2, 1)[:rows, :columns].astype(np.uint8)
            node = grown.leaves(steps.ravel(), scale.ravel())
            grown.climb(scale.ravel(), delay.ravel(), node, self.model.finest - deep - 1)
            node = node.reshape(scale.shape)
            left.append(enhancement.depths(scale, node, delay, self.model))
            values.append(enhancement.settled(enhancement.Prior(before, scale), node, self.model, order))
        found = torch.from_numpy(np.array(values)).float() * LATENT_STEP
        return found, torch.from_numpy(np.array(left)[:, None]).float()


def tables(model: Texture, data: Path, cache: Path) -> dict[str, np.ndarray]:
    """Return the tensors of ``trees.tables`` for crops of the sets ``train-*``, always the same ones."""
    pictures = open_sets(data, "train-*", cache)
    crops = Crops(pictures, previews(pictures, "train", cache), 7)
    return trees.tables(model, (crops.batch(BATCH) for _ in range(CROP_BATCHES)))


@torch.no_grad()
def warm(model: Texture) -> bool:
    """Give the networks the newest weights that were kept; tell whether there are any."""
    try:
        name = weights.newest("texture")
        frozen, analysis = weights.load(name), weights.load(name.replace("texture", "analysis"))
    except WeightsError:
        return False
    model.analysis.load_state_dict(encoder.state(analysis, ""))
    for layer, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and not layer.startswith("analysis"):
            thaw(module, frozen.part(layer), **UNITS.get(layer, {}))
    model.widen(1 / WIDER)
    chance = torch.from_numpy(frozen["hyper.frequencies"].astype(np.float32))
    codes = torch.arange(-HYPER_TOP, HYPER_TOP + 1)
    spread = (chance * codes.square()).sum(1) / chance.sum(1)
    model.hyper_scale.copy_(spread.clamp_min(0.01).log() / 2)
    return True


@torch.no_grad()
def evaluate(model: Texture, pictures: Tensor, predictions: Tensor) -> dict[str, float]:
    """Return mean PSNR and estimated bytes of 128 px crops at five steps."""
    set_rounding(model, True)
    figures = {}
    for width in (1, 3, 9, 27, 81):
        decoded, bits = model(pictures, predictions, torch.full((len(pictures),), float(width)))
        error = (decoded.clamp(0, 255) - pictures).square().mean((1, 2, 3))
        figures[f"psnr{width}"] = round(float((10 * torch.log10(255**2 / error)).mean()), 3)
        figures[f"bytes{width}"] = round(float(bits.mean()) / 8, 1)
    return figures
