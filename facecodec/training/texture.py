"""Train the texture networks: one model for all rates.

Every picture of a batch draws its own quantisation step 81^u, the depth at which its embedded stream is cut,
and is charged bits + lambda * squared error with lambda = FINEST / step^2, the exchange rate at which that
step is optimal for an orthonormal transform (36 / (2 ln 2 * 4^2) at the finest).

Last, on streams that were cut, the synthesis learns a hybrid metric (LFIC, arXiv 1812.10067): the error, and
what the codec's own recogniser makes of the faces that are cut the deepest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec import enhancement, texture, weights
from facecodec.enhancement import Order
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
    interval_bits,
    scale_of,
)
from facecodec.training import trees
from facecodec.training.crops import BATCH, SIDE, Crops, Draw
from facecodec.training.data import open_sets
from facecodec.training.likeness import Likeness
from facecodec.training.run import Run
from facecodec.training.views import previews

RATE = 4e-4
MATRIX_RATE = 0.005
FINEST = 1.6
COARSEST = 81.0
BLOCKS_BATCHES = 40
CROP_BATCHES = 80
JOINT_SHARE, REVIEW_SHARE = 0.7, 0.1
REVIEW_BATCHES = 200
NEXT_REVIEW = 18
LEAST_BITS = 200.0
LIKENESS_WEIGHT = 1.0
REGIONAL = 1 / 3
LATEST = 30
LOG_STEPS = 100
EVALUATE_STEPS = 2000
ROUNDING_FROM = 0.7


def train(*, data: Path, runs: Path, minutes: float) -> None:
    """Train on sets ``train-*`` and ``scenes`` of ``data``, with the previews of the newest base weights.

    First all networks together; then the review of scales; then, for the last share of the time, the
    synthesis alone learns from what decoders see: latents of streams that were cut, in the order of the trees
    that these latents have grown.
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
        minutes=JOINT_SHARE * minutes,
        rate=RATE,
        matrix_rate=MATRIX_RATE,
        kernels=[p for p in model.parameters() if p.ndim == 4 and all(p is not t for t in transforms)],
        gentle=transforms,
    )
    before = joint.step
    learn(joint, data, cache, known=known)
    if joint.step > before:
        for later in (folder / "review", folder):
            (later / "checkpoint.safetensors").unlink(missing_ok=True)
    model.load_state_dict(joint.averaged.state_dict())
    model.widen(WIDER)
    for part, where, share, stage in (
        (model.review, folder / "review", REVIEW_SHARE, learn_review),
        (model.synthesis, folder, 1 - JOINT_SHARE - REVIEW_SHARE, learn_synthesis),
    ):
        model.requires_grad_(False)
        part.requires_grad_(True)
        model.synthesis.linear.requires_grad_(False)
        run = Run(
            where,
            model,
            minutes=share * minutes,
            rate=RATE,
            matrix_rate=MATRIX_RATE,
            kernels=[p for p in model.parameters() if p.ndim == 4 and p.requires_grad],
        )
        stage(run, data, cache)
        model.load_state_dict(run.averaged.state_dict())


def learn(run: Run[Texture], data: Path, cache: Path, *, known: bool) -> None:
    """Train all networks together; from fresh weights, unless ``known``, start with blocks' own axes."""
    model = run.model
    torch.manual_seed(run.step * 16 + run.worker)
    draw = Draw(data, cache, [run.step, run.worker])
    held_out = open_sets(data, "val", cache)
    validation = Crops(held_out, previews(held_out, "val", cache), 1).batch(48)[:2]
    if not (run.step or known):
        covariance = torch.zeros(3 * BLOCK**2, 3 * BLOCK**2, dtype=torch.float64)
        for _ in range(BLOCKS_BATCHES):
            pictures, predictions, _ = draw.faces.batch(BATCH)
            blocks = (
                F.pixel_unshuffle(pictures - predictions, BLOCK).permute(0, 2, 3, 1).flatten(0, 2).double()
            )
            covariance += blocks.T @ blocks / len(blocks) / BLOCKS_BATCHES
        model.start_from(covariance)
        run.averaged.load_state_dict(model.state_dict())
    for step in run.steps():
        set_rounding(model, run.progress > ROUNDING_FROM)
        model.train()
        pictures, predictions, _ = draw.batch()
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


def learn_review(run: Run[Texture], data: Path, cache: Path) -> None:
    """Train the review of scales on what all other networks, which stay, make of crops."""
    model = run.model
    set_rounding(model, True)
    draw = Draw(data, cache, [7, run.worker, 3])
    seen = trees.sample(model.eval(), (draw.batch()[:2] for _ in range(REVIEW_BATCHES)))
    grown = trees.grow(trees.steps(seen.offsets).ravel(), seen.scales.ravel())
    finest, rng = int(grown["finest"][0]), np.random.default_rng([run.step, run.worker, 4])
    centre, width = (torch.from_numpy(cells) for cells in trees.cells())
    for step in run.steps():
        set_rounding(model, run.progress > ROUNDING_FROM)
        drawn = rng.choice(len(seen.scales), BATCH, replace=False)
        scales, offsets = seen.scales[drawn], trees.steps(seen.offsets[drawn])
        walk = trees.Walk(grown, offsets, scales, delays(BATCH, scales.shape[2:], rng)[1])
        depth = np.round((rng.permutation(BATCH) + rng.random()) / BATCH * DEPTH_TOP).astype(int)
        before = walk.node(finest - depth)
        after = torch.from_numpy(walk.node(finest - depth + NEXT_REVIEW).astype(np.int64))
        reached = torch.from_numpy(before.astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            index = walk.reviewed(model, finest - depth, before)
        bits, told = (
            (
                interval_bits(centre[after], sigma, width[after])
                - interval_bits(centre[reached], sigma, width[reached])
            ).sum((1, 2, 3))
            for sigma in (scale_of(index), scale_of(torch.from_numpy(scales).float()))
        )
        run.descend((bits / (told + LEAST_BITS)).mean(), clip=1.0)
        run.note(bits=bits.mean().item(), before=told.mean().item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


def learn_synthesis(run: Run[Texture], data: Path, cache: Path) -> None:
    """Train the synthesis on cut streams; the trees of all other networks, which stay, are grown first."""
    model = run.model
    set_rounding(model, True)
    stream, likeness = Stream(model, tables(model.eval(), data, cache)), Likeness()
    torch.manual_seed(run.step * 16 + run.worker)
    draw = Draw(data, cache, [run.step, run.worker, 1])
    rng = np.random.default_rng([run.step, run.worker, 2])
    for step in run.steps():
        pictures, predictions, frames = draw.batch()
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
        unlike = likeness.lacking(decoded, pictures, frames, depth)
        run.descend(loss + LIKENESS_WEIGHT * unlike, clip=2.0)
        run.note(loss=loss.item(), error=error.mean().item(), unlike=unlike.item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


class Stream:
    """Latents as a decoder knows them when their stream was cut, by the frozen code itself."""

    def __init__(self, model: Texture, integers: dict[str, np.ndarray]) -> None:
        """Take what ``trees.tables`` gave of a model."""
        grown = trees.planted(integers)
        regions = np.zeros((CELLS, CELLS), np.uint8)
        top, finest = integers["latent.top"].astype(np.int32), int(integers["finest"][0])
        reviews = tuple(integers["review.turns"].tolist())
        self.integers, self.network = integers, model
        self.model = texture.TextureModel(
            "", b"", {}, (), grown, top, regions, integers["tree.surprise"], reviews, finest, 0
        )

    def cut(
        self, y: Tensor, mean: Tensor, index: Tensor, depth: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return y_hat (N, C, h, w) and the depths (N, 1, h, w) of streams cut at these depths (N,)."""
        steps, scales = (y - mean).round().short().numpy(), index.byte().numpy()
        order, delay = delays(len(steps), scales.shape[2:], rng)
        walk = trees.Walk(self.integers, steps, scales, delay)
        end = self.model.finest - depth
        reviews = np.array([0, *self.model.reviews])
        last = reviews[np.searchsorted(reviews, end - 1, "right") - 1]
        told = walk.reviewed(self.network, last, walk.node(last)).byte().numpy()
        told[last == 0] = scales[last == 0]
        node, before = walk.node(end), (mean / LATENT_STEP).round().short().numpy()
        values, left = [], []
        for crop in range(len(steps)):
            known = texture.Prior(before[crop], told[crop])
            values.append(enhancement.settled(known, node[crop], self.model, order[crop]))
            left.append(enhancement.depths(scales[crop], node[crop], delay[crop], self.model))
        found = torch.from_numpy(np.array(values)).float() * LATENT_STEP
        return found, torch.from_numpy(np.array(left)[:, None]).float()


def delays(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[list[Order], np.ndarray]:
    """Return orders of crops, and how many turns their blocks (h, w) are put off, uint8 (N, h, w).

    A third of crops puts 2x2 blocks off by random turns, as for recognition.
    """
    order = [Order(int(rng.random() < REGIONAL)) for _ in range(count)]
    later = rng.integers(0, LATEST + 1, (count, -(-shape[0] // 2), -(-shape[1] // 2)), np.uint8)
    later = (later * np.array(order, np.uint8)[:, None, None]).repeat(2, 1).repeat(2, 2)
    return order, later[:, : shape[0], : shape[1]]


def tables(model: Texture, data: Path, cache: Path) -> dict[str, np.ndarray]:
    """Return the tensors of ``trees.tables`` for crops of the sets ``train-*``, always the same ones."""
    pictures = open_sets(data, "train-*", cache)
    crops = Crops(pictures, previews(pictures, "train", cache), 7)
    return trees.tables(model, trees.sample(model, (crops.batch(BATCH)[:2] for _ in range(CROP_BATCHES))))


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
