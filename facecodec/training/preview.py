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
from facecodec.training import augment
from facecodec.training.data import Pictures, open_set, open_sets
from facecodec.training.embedding import Pool, brightened, epochs, loaded, to_batch
from facecodec.training.run import Run
from facecodec.training.views import wide_views

BATCH = 64
RATE = 8e-4
IDENTITY_STEP = 0.09
CODE_TOP = 15
APPEARANCE_BITS = 420.0
PIXEL_WEIGHT = 4.0
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
        """Return unit embeddings and their coded twins (N, 256), previews.

        Previews are (N, 3, 64, 64), 0..255.
        """
        embedding, _ = self.trunk(views)
        embedding = F.normalize(embedding.float())
        identity = snapped(embedding / IDENTITY_STEP, 1.0).clamp(-CODE_TOP, CODE_TOP)
        codes = snapped(self.appearance(wide), 1.0).clamp(-APPEARANCE_TOP, APPEARANCE_TOP)
        shown = identity.detach().lerp(identity, TRUNK_SHARE)
        return embedding, F.normalize(identity), self.generator(shown, codes)


class WidePool(Pool):
    """The embedding's pool with the wide view of every row, cut with the same jitter."""

    def wide(self, rows: np.ndarray) -> Tensor:
        """Return the clean wide views (N, 3, 64, 64), 0..255, of these rows."""
        size = faces.WIDE_PIXELS
        views = np.empty((len(rows), size, size, 3), np.uint8)
        for place, row in enumerate(rows):
            variant, which = divmod(int(row), len(self.indices))
            index = self.indices[which]
            matrix = augment.jittered(np.random.default_rng([variant, which]), self.pictures.landmarks(index))
            views[place] = faces.crop(self.pictures.picture(index), matrix, size, faces.WIDE_EXTENT)
        return to_batch(views)


def train(*, data: Path, runs: Path, teacher: Path, minutes: float) -> None:
    """Train on the sets ``train-*`` of ``data``, going on from the run ``runs/embedding``."""
    torch.manual_seed(0)
    cache, source = runs / "cache", runs / "embedding"
    network = loaded(teacher)
    pool = WidePool(open_sets(data, "train-*", cache), network, source / "pool")
    axes = torch.from_numpy(np.load(source / "axes.npy"))
    model = Base()
    start = {
        k.removeprefix("averaged."): v
        for k, v in load_file(source / "checkpoint.safetensors").items()
        if k.startswith("averaged.")
    }
    model.trunk.load_state_dict(start)
    run = Run(runs / "preview", model, minutes=minutes, rate=RATE, weight_decay=0.02)
    if not run.step:
        known = wide_views(pool.pictures, cache / "wide-train.npy")
        model.appearance.fit(to_batch(known[:: len(known) // FITTED + 1]), APPEARANCE_BITS)
        model.generator.start_from(model.appearance)
        run.averaged.load_state_dict(model.state_dict())
    torch.manual_seed(run.step * 16 + run.worker)
    rng = np.random.default_rng([run.step, run.worker])
    order = epochs(rng, len(pool.views), BATCH)
    validation = validation_views(open_set(data, "val", cache), cache)
    for step in run.steps():
        rows = next(order)
        views, targets = pool.batch(rows)
        wide = pool.wide(rows)
        targets = F.normalize(targets @ axes)
        set_rounding(model, run.progress > ROUNDING_FROM)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            embedding, coded, preview = model(brightened(rng, views), wide)
        distance = (embedding - targets).square().sum(1).mean()
        coarse = (coded - targets).square().sum(1).mean()
        relation = (embedding @ embedding.T - targets @ targets.T).square().mean()
        error = ((preview - wide) / 64).square().mean()
        run.descend(distance + coarse + 4 * relation + PIXEL_WEIGHT * error, clip=5.0)
        run.note(distance=distance.item(), coarse=coarse.item(), error=error.item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log(
                **(evaluate(run.averaged, *validation) if step % EVALUATE_STEPS == EVALUATE_STEPS - 1 else {})
            )


def validation_views(pictures: Pictures, cache: Path) -> tuple[Tensor, Tensor]:
    """Return aligned faces (N, 3, 112, 112) and wide views (N, 3, 64, 64) of a labelled set."""
    aligned = [
        faces.crop(pictures.picture(i), faces.similarity(pictures.landmarks(i)), faces.FRAME)
        for i in range(len(pictures))
    ]
    return to_batch(np.array(aligned)), to_batch(np.array(wide_views(pictures, cache / "wide-val.npy")))


@torch.no_grad()
def evaluate(model: Base, views: Tensor, wide: Tensor) -> dict[str, float]:
    """Return the mean PSNR of previews against wide views."""
    set_rounding(model, True)
    _, _, preview = model(views, wide)
    error = (preview.clamp(0, 255) - wide).square().mean((1, 2, 3))
    return {"psnr": round(float((10 * torch.log10(255**2 / error)).mean()), 3)}
