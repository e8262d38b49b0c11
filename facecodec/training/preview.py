"""Train both tasks of the base layer at once: recognition and reconstruction over one trunk.

After TMM 2021, arXiv 2004.10043.  Starts from the trunk of ``fsc train embedding``.  First the generator
alone learns to show the face from its codes; then the trunk, too, goes on learning, through the quantiser.
A preview is to be recognised: the trunk and the teacher compare it with the face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec import faces, weights
from facecodec.errors import WeightsError
from facecodec.networks import encoder
from facecodec.networks.embedding import Trunk
from facecodec.networks.preview import APPEARANCE_TOP, CODE_STEP, Appearance, Generator
from facecodec.networks.quantised import set_rounding, snapped, thaw
from facecodec.training.data import Pictures, open_set, open_sets
from facecodec.training.embedding import (
    IDENTITY_STEP,
    RELATION_WEIGHT,
    Pool,
    brightened,
    closest_axes,
    coded,
    damaged,
    epochs,
    principal_axes,
    to_batch,
)
from facecodec.training.run import Run
from facecodec.training.teacher import Teacher
from facecodec.training.views import near_views, wide_views

BATCH = 32
JUDGED = 8
"""Previews of a batch that the teacher looks at, too."""
RATE = 1.2e-3
SHOWING = 0.7
"""The share of the time in which the trunk is held."""
APPEARANCE_BITS = 420.0
PIXEL_WEIGHT = 4.0
LIKENESS_WEIGHT = 1.5
TRUNK_SHARE = 0.25
"""How much of the preview's gradient reaches the trunk through the identity codes."""
FITTED = 4000
LOG_STEPS = 100
EVALUATE_STEPS = 500
ROUNDING_FROM = 0.6


class Base(nn.Module):
    """The base layer as trained: trunk, appearance analysis, generator."""

    def __init__(self) -> None:
        """Make all networks with fresh weights."""
        super().__init__()
        self.trunk = Trunk()
        self.appearance = Appearance()
        self.generator = Generator()

    def forward(self, views: Tensor, wide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit embeddings and their coded twins (N, 256), and previews (M, 3, 64, 64), 0..255.

        ``views`` are aligned faces (N, 3, 112, 112); the last M of them belong to ``wide`` (M, 3, 64, 64).
        """
        embedding = unit(self.trunk, views)
        identity, decoded = coded(embedding)
        codes = snapped(self.appearance(wide), 1.0).clamp(-APPEARANCE_TOP, APPEARANCE_TOP)
        identity = identity[-len(wide) :]
        shown = identity.detach().lerp(identity, TRUNK_SHARE)
        return embedding, decoded, self.generator(shown, codes)


def train(*, data: Path, runs: Path, teacher: Path, minutes: float) -> None:
    """Train on the sets ``train-*`` of ``data``, going on from the run ``runs/embedding``."""
    torch.manual_seed(0)
    cache, source = runs / "cache", runs / "embedding"
    network = Teacher(teacher)
    pool = Pool(open_sets(data, "train-*", cache), network, source / "pool")
    model = Base()
    start = {
        k.removeprefix("averaged."): v
        for k, v in load_file(source / "checkpoint.safetensors").items()
        if k.startswith("averaged.")
    }
    model.trunk.load_state_dict(start)
    every = (
        near_views(pool.pictures, cache / "near-train.npy"),
        wide_views(pool.pictures, cache / "wide-train.npy"),
    )
    known = warm(model)
    run = Run(runs / "preview", model, minutes=minutes, rate=RATE, weight_decay=0.02)
    axes_file = runs / "preview" / "axes.npy"
    if not run.step:
        some = np.arange(0, len(pool.pictures), len(pool.pictures) // FITTED + 1)
        turn = straighten(model, every[0][some], known=known)
        np.save(axes_file, np.load(source / "axes.npy") @ turn.numpy())
        if not known:
            model.appearance.fit(to_batch(every[1][some]), APPEARANCE_BITS)
            model.generator.start_from(model.appearance)
        run.averaged.load_state_dict(model.state_dict())
    axes = torch.from_numpy(np.load(axes_file))
    torch.manual_seed(run.step * 16 + run.worker)
    rng = np.random.default_rng([run.step, run.worker])
    recognised = epochs(rng, len(pool.views), BATCH)
    shown = (np.array(pool.indices)[places] for places in epochs(rng, len(pool.indices), BATCH))
    validation = validation_views(open_set(data, "val", cache), cache)
    for step in run.steps():
        set_rounding(model, run.progress > ROUNDING_FROM)
        joint = run.progress > SHOWING
        model.train()
        model.trunk.train(joint).requires_grad_(joint)
        places, mirrored = next(shown), rng.choice([-1, 1])
        near, wide = (to_batch(kind[places][:, :, ::mirrored]) for kind in every)
        if joint:
            views, targets, _ = pool.batch(next(recognised))
            given = torch.cat([to_batch(damaged(rng, views)), near])
            loss, preview = recognition(run, brightened(rng, given), targets @ axes, wide)
        else:
            loss = torch.zeros(())
            with torch.autocast("cpu", torch.bfloat16):
                _, _, preview = model(near, wide)
        error = ((preview - wide) / 64).square().mean()
        unlike, stranger = unlikeness(run.averaged.trunk, network, preview, near, rng)
        run.descend(loss + PIXEL_WEIGHT * error + LIKENESS_WEIGHT * (unlike + stranger), clip=5.0)
        run.note(error=error.item(), unlike=unlike.item(), stranger=stranger.item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log(
                **(
                    evaluate(run.averaged, network, *validation)
                    if step % EVALUATE_STEPS == EVALUATE_STEPS - 1
                    else {}
                )
            )


def recognition(run: Run[Base], views: Tensor, targets: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the trunk still has to learn of the teacher's answers to its views, and previews.

    As for ``Base.forward``; ``targets`` are of those of the ``views`` that come first.
    """
    with torch.autocast("cpu", torch.bfloat16):
        embedding, decoded, preview = run.model(views, wide)
    targets = F.normalize(targets)
    embedding, decoded = embedding[: len(targets)], decoded[: len(targets)]
    distance = (embedding - targets).square().sum(1).mean()
    coarse = (decoded - targets).square().sum(1).mean()
    relation = (embedding @ embedding.T - targets @ targets.T).square().mean()
    run.note(distance=distance.item(), coarse=coarse.item())
    return distance + coarse + RELATION_WEIGHT * relation, preview


def warm(model: Base) -> bool:
    """Give appearance and generator the newest weights that were kept; tell whether there are any."""
    try:
        base = weights.load(weights.newest("base"))
        trunk = weights.load(weights.newest("trunk"))
    except WeightsError:
        return False
    model.appearance.load_state_dict(encoder.state(trunk, "appearance."))
    generator = model.generator
    generator.start_from(model.appearance)
    thaw(generator.start, base.part("start"), input_step=CODE_STEP)
    for index, layer in enumerate(generator.layers):
        assert isinstance(layer, nn.Conv2d)
        thaw(layer, base.part(f"layers.{index}"))
    thaw(generator.finish, base.part("finish"))
    return True


@torch.no_grad()
def straighten(model: Base, near: np.ndarray, *, known: bool) -> Tensor:
    """Turn a trunk's embeddings to their principal axes, where codes cost least; return the turn (256, 256).

    As found on faces uint8 (N, 112, 112, 3).  The generator of a ``known`` base turns with it.
    """
    model.eval()
    parts = np.array_split(near, -(-len(near) // BATCH))
    found = torch.cat([unit(model.trunk, to_batch(part)) for part in parts])
    turn = principal_axes(found)
    model.trunk.embed.weight.copy_(turn.T @ model.trunk.embed.weight)
    model.trunk.embed.bias.copy_(turn.T @ model.trunk.embed.bias)
    if known:
        before = encoder.face_encoder(weights.newest("trunk"))
        change = closest_axes(torch.from_numpy(before.embed(near)), found @ turn)
        identity = model.generator.start.weight[:, : len(turn), 0, 0]
        identity.copy_(identity @ change * (IDENTITY_STEP / before.step))
    return turn


def unit(trunk: Trunk, views: Tensor) -> Tensor:
    """Return the unit embeddings (N, 256) of faces (N, 3, 112, 112)."""
    return F.normalize(trunk(views)[0].float())


def unlikeness(
    trunk: Trunk, teacher: Teacher, preview: Tensor, near: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return how little previews (N, 3, 64, 64) look like the faces (N, 3, 112, 112) to trunk and to teacher.

    1 - cosine of embeddings, and for the trunk of the features below them.  Each preview is seen a little off
    its place and size, so that it is no answer to please one network only.
    """
    seen = framed(preview.clamp(0, 255), rng)
    with torch.autocast("cpu", torch.bfloat16):
        found = trunk(seen)
        with torch.no_grad():
            wanted = trunk(near)
    unlike = sum(
        (1 - F.cosine_similarity(a.float(), b.float()).mean() for a, b in zip(found, wanted, strict=True)),
        start=torch.zeros(()),
    )
    with torch.no_grad():
        known = teacher.network(near[:JUDGED].bfloat16()).float()
    stranger = 1 - F.cosine_similarity(teacher.network(seen[:JUDGED].bfloat16()).float(), known).mean()
    return unlike, stranger


def framed(preview: Tensor, rng: np.random.Generator | None = None) -> Tensor:
    """Return the recognition frames (N, 3, 112, 112) in previews (N, 3, 64, 64), with ``rng`` a bit off."""
    frame = torch.zeros(len(preview), 2, 3)
    frame[:, 0, 0] = frame[:, 1, 1] = faces.FRAME / faces.WIDE_EXTENT
    if rng is not None:
        frame[:, :, :2] *= torch.from_numpy(rng.uniform(0.94, 1.06, (len(preview), 1, 1)).astype(np.float32))
        shift = rng.uniform(-2, 2, (len(preview), 2)).astype(np.float32)
        frame[:, :, 2] = torch.from_numpy(shift) / faces.WIDE_EXTENT
    grid = F.affine_grid(frame, [len(preview), 3, faces.FRAME, faces.FRAME], align_corners=False)
    seen = F.grid_sample(preview, grid, padding_mode="border", align_corners=False)
    return seen.contiguous(memory_format=torch.channels_last)


def validation_views(pictures: Pictures, cache: Path) -> tuple[Tensor, Tensor]:
    """Return aligned faces (N, 3, 112, 112) and wide views (N, 3, 64, 64) of a labelled set."""
    near, wide = near_views(pictures, cache / "near-val.npy"), wide_views(pictures, cache / "wide-val.npy")
    return to_batch(near), to_batch(wide)


@torch.no_grad()
def evaluate(model: Base, teacher: Teacher, views: Tensor, wide: Tensor) -> dict[str, float]:
    """Return the mean PSNR of previews against wide views, and their likeness to the teacher."""
    set_rounding(model, True)
    _, _, preview = model(views, wide)
    preview = preview.clamp(0, 255)
    error = (preview - wide).square().mean((1, 2, 3))
    (seen, _), (known, _) = (teacher.answer(x) for x in (framed(preview), views))
    return {
        "psnr": round(float((10 * torch.log10(255**2 / error)).mean()), 3),
        "likeness": round(float(F.cosine_similarity(seen, known).mean()), 4),
    }
