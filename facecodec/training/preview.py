"""Train both tasks of the base layer at once: recognition and reconstruction over one trunk.

After TMM 2021, arXiv 2004.10043.  Starts from the trunk of ``fsc train embedding`` and goes on distilling it,
through the quantiser too; the generator learns to show the face from the codes alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec import faces
from facecodec.networks.embedding import Trunk
from facecodec.networks.preview import APPEARANCE_TOP, Appearance, Generator
from facecodec.networks.quantised import set_rounding, snapped
from facecodec.training.data import Pictures, open_set, open_sets
from facecodec.training.embedding import RELATION_WEIGHT, Pool, Teacher, brightened, coded, epochs, to_batch
from facecodec.training.run import Run
from facecodec.training.views import near_views, wide_views

BATCH = 40
JUDGED = 16
"""Previews of a batch that the teacher looks at."""
RATE = 2e-4
APPEARANCE_BITS = 420.0
PIXEL_WEIGHT = 4.0
LIKENESS_WEIGHT = 0.5
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
        embedding, _ = self.trunk(views)
        embedding = F.normalize(embedding.float())
        identity, decoded = coded(embedding)
        codes = snapped(self.appearance(wide), 1.0).clamp(-APPEARANCE_TOP, APPEARANCE_TOP)
        shown = identity.detach().lerp(identity, TRUNK_SHARE)
        return embedding, decoded, self.generator(shown[-len(wide) :], codes)


def train(*, data: Path, runs: Path, teacher: Path, minutes: float) -> None:
    """Train on the sets ``train-*`` of ``data``, going on from the run ``runs/embedding``."""
    torch.manual_seed(0)
    cache, source = runs / "cache", runs / "embedding"
    network = Teacher(teacher)
    pool = Pool(open_sets(data, "train-*", cache), network, source / "pool")
    axes = torch.from_numpy(np.load(source / "axes.npy"))
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
    run = Run(runs / "preview", model, minutes=minutes, rate=RATE, weight_decay=0.02)
    if not run.step:
        model.appearance.fit(to_batch(every[1][:: len(every[1]) // FITTED + 1]), APPEARANCE_BITS)
        model.generator.start_from(model.appearance)
        run.averaged.load_state_dict(model.state_dict())
    torch.manual_seed(run.step * 16 + run.worker)
    rng = np.random.default_rng([run.step, run.worker])
    recognised = epochs(rng, len(pool.views), BATCH)
    shown = (np.array(pool.indices)[places] for places in epochs(rng, len(pool.indices), BATCH))
    validation = validation_views(open_set(data, "val", cache), cache)
    for step in run.steps():
        set_rounding(model, run.progress > ROUNDING_FROM)
        model.train()
        views, targets, _ = pool.batch(next(recognised))
        targets = F.normalize(targets @ axes)
        places, mirrored = next(shown), rng.choice([-1, 1])
        near, wide = (to_batch(kind[places][:, :, ::mirrored]) for kind in every)
        with torch.autocast("cpu", torch.bfloat16):
            embedding, decoded, preview = model(brightened(rng, torch.cat([views, near])), wide)
        embedding, decoded = embedding[:BATCH], decoded[:BATCH]
        distance = (embedding - targets).square().sum(1).mean()
        coarse = (decoded - targets).square().sum(1).mean()
        relation = (embedding @ embedding.T - targets @ targets.T).square().mean()
        error = ((preview - wide) / 64).square().mean()
        unlike = unlikeness(network, preview[:JUDGED], near[:JUDGED], rng)
        loss = distance + coarse + RELATION_WEIGHT * relation + PIXEL_WEIGHT * error
        run.descend(loss + LIKENESS_WEIGHT * unlike, clip=5.0)
        run.note(distance=distance.item(), coarse=coarse.item(), error=error.item(), unlike=unlike.item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log(
                **(evaluate(run.averaged, *validation) if step % EVALUATE_STEPS == EVALUATE_STEPS - 1 else {})
            )


def unlikeness(teacher: Teacher, preview: Tensor, near: Tensor, rng: np.random.Generator) -> Tensor:
    """Return 1 - cosine of the teacher's embeddings of previews (N, 3, 64, 64) and of the aligned faces."""
    shift = torch.from_numpy(rng.uniform(-2, 2, (len(preview), 2)).astype(np.float32))
    scale = faces.FRAME / faces.WIDE_EXTENT
    frame = torch.zeros(len(preview), 2, 3)
    frame[:, 0, 0] = frame[:, 1, 1] = scale
    frame[:, :, 2] = shift / faces.WIDE_EXTENT
    grid = F.affine_grid(frame, [len(preview), 3, faces.FRAME, faces.FRAME], align_corners=False)
    seen = F.grid_sample(preview.clamp(0, 255), grid, padding_mode="border", align_corners=False)
    seen = seen.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = teacher.network(near.bfloat16()).float()
    return 1 - F.cosine_similarity(teacher.network(seen.bfloat16()).float(), wanted).mean()


def validation_views(pictures: Pictures, cache: Path) -> tuple[Tensor, Tensor]:
    """Return aligned faces (N, 3, 112, 112) and wide views (N, 3, 64, 64) of a labelled set."""
    near, wide = near_views(pictures, cache / "near-val.npy"), wide_views(pictures, cache / "wide-val.npy")
    return to_batch(near), to_batch(wide)


@torch.no_grad()
def evaluate(model: Base, views: Tensor, wide: Tensor) -> dict[str, float]:
    """Return the mean PSNR of previews against wide views."""
    set_rounding(model, True)
    _, _, preview = model(views, wide)
    error = (preview.clamp(0, 255) - wide).square().mean((1, 2, 3))
    return {"psnr": round(float((10 * torch.log10(255**2 / error)).mean()), 3)}
