"""Train the trunk's embedding by distillation: teacher and student see the same augmented faces.

Function matching (Beyer et al., CVPR 2022, arXiv 2106.05237) over a pool of augmented views.  The teacher
answers once a view; later epochs reuse its answers, which on a CPU halves the cost of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facecodec import faces
from facecodec.networks.embedding import EMBEDDING, Trunk
from facecodec.training import augment
from facecodec.training.data import Pictures, open_sets
from facecodec.training.run import Run

BATCH = 96
VARIANTS = 3
RATE = 2e-3
LOG_STEPS = 100


class Pool:
    """Augmented 112x112 views with the teacher's embeddings, filled as they are first asked for."""

    def __init__(self, pictures: Pictures, teacher: torch.nn.Module, folder: Path) -> None:
        """Open or create the pool's files in ``folder``."""
        self.pictures = pictures
        self.teacher = teacher
        self.indices = pictures.with_faces()
        count = VARIANTS * len(self.indices)
        folder.mkdir(parents=True, exist_ok=True)
        self.views = _array(folder / "views.npy", np.uint8, (count, faces.FRAME, faces.FRAME, 3))
        self.targets = _array(folder / "targets.npy", np.float32, (count, 512))
        self.filled = _array(folder / "filled.npy", np.bool_, (count,))

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return views (N, 3, 112, 112) float 0..255 and teacher embeddings (N, 512) of unit norm."""
        missing = rows[~self.filled[rows]]
        if missing.size:
            for row in missing:
                variant, which = divmod(int(row), len(self.indices))
                rng = np.random.default_rng([variant, which])
                index = self.indices[which]
                matrix = augment.jittered(rng, self.pictures.landmarks(index))
                view = faces.crop(self.pictures.picture(index), matrix, faces.FRAME)
                self.views[row] = augment.degraded(rng, view) if rng.random() < 0.7 else view
            with torch.no_grad():
                answer = self.teacher(to_batch(self.views[missing]).bfloat16()).float()
            self.targets[missing] = F.normalize(answer).numpy()
            self.filled[missing] = True
        return to_batch(self.views[rows]), torch.from_numpy(self.targets[rows])


def _array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    mode = "r+" if path.exists() else "w+"
    return np.lib.format.open_memmap(path, mode, dtype, shape)


def to_batch(views: np.ndarray) -> Tensor:
    """Return uint8 (N, H, W, 3) views as float32 (N, 3, H, W), channels last."""
    return torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2).float()


def loaded(teacher: Path) -> torch.nn.Module:
    """Return a TorchScript recogniser in bfloat16."""
    network: torch.nn.Module = torch.jit.load(teacher)  # type: ignore[no-untyped-call]
    return network.to(torch.bfloat16).eval()


def principal_axes(targets: Tensor) -> Tensor:
    """Return the (512, 256) leading principal axes of unit embeddings, by second moment about zero."""
    _, vectors = torch.linalg.eigh(targets.T.double() @ targets.double())
    axes: Tensor = vectors.flip(1)[:, :EMBEDDING].float()
    return axes


def train(*, data: Path, runs: Path, teacher: Path, minutes: float) -> None:
    """Distil ``teacher`` (TorchScript) into the trunk on the sets ``train-*`` of ``data``."""
    torch.manual_seed(0)
    folder = runs / "embedding"
    network = loaded(teacher)
    pool = Pool(open_sets(data, "train-*", runs / "cache"), network, folder / "pool")
    model = Trunk()
    run = Run(folder, model, minutes=minutes, rate=RATE, weight_decay=0.05)
    axes_file = folder / "axes.npy"
    if not axes_file.exists():
        first = np.arange(0, len(pool.indices), max(1, len(pool.indices) // 4000))
        np.save(axes_file, principal_axes(pool.batch(first)[1]).numpy())
    axes = torch.from_numpy(np.load(axes_file))
    rng = np.random.default_rng([run.step, run.worker])
    order = epochs(rng, len(pool.views), BATCH)
    for step in run.steps():
        views, targets = pool.batch(next(order))
        views, targets = brightened(rng, views), F.normalize(targets @ axes)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            embedding, _ = model(views)
        embedding = F.normalize(embedding.float())
        distance = (embedding - targets).square().sum(1).mean()
        relation = (embedding @ embedding.T - targets @ targets.T).square().mean()
        run.descend(distance + 4 * relation, clip=5.0)
        run.note(distance=distance.item(), relation=relation.item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


def brightened(rng: np.random.Generator, views: Tensor) -> Tensor:
    """Return the views with a little random gain and offset a picture, which the embedding should ignore."""
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(views), 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-12, 12, (len(views), 1, 1, 1)).astype(np.float32))
    return (views * gain + offset).clamp(0, 255)


def epochs(rng: np.random.Generator, count: int, batch: int) -> Iterator[np.ndarray]:
    """Yield sorted rows in batches, every row once an epoch, for ever."""
    while True:
        for rows in np.array_split(rng.permutation(count), count // batch):
            yield np.sort(rows)
