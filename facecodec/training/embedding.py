"""Train the trunk's embedding by distillation: teacher and student see the same faces, the student damaged.

Function matching (Beyer et al., CVPR 2022, arXiv 2106.05237) over a pool of views, changed in many ways.  The
student also learns the features that the teacher's last linear layer sees (FitNets, Romero et al., ICLR 2015,
arXiv 1412.6550).  The teacher answers once a view, and sees it as it is; the student sees it with new damage
each time, which its embedding should ignore.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from facecodec import faces, weights
from facecodec.errors import WeightsError
from facecodec.networks import encoder
from facecodec.networks.embedding import EMBEDDING, FEATURES, Trunk
from facecodec.networks.quantised import snapped
from facecodec.training import augment
from facecodec.training.data import Pictures, open_sets
from facecodec.training.run import Run

BATCH = 64
VARIANTS = 4
BLENDED = 0.25
TURNED = 0.4
WARPED = 0.3
COVERED = 0.25
DAMAGED = 0.6
RATE = 1e-3
RELATION_WEIGHT = 4.0
FEATURES_WEIGHT = 1.0
IDENTITY_STEP = 0.055
CODE_TOP = 15
FITTED = 9000
LOG_STEPS = 100


class Teacher:
    """A TorchScript recogniser whose last layer is linear, in bfloat16."""

    def __init__(self, path: Path) -> None:
        """Load the recogniser."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            network: torch.nn.Module = torch.jit.load(path)  # type: ignore[no-untyped-call]
        self.network = network.to(torch.bfloat16).eval()

    @torch.no_grad()
    def answer(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw embeddings (N, E) and the features (N, F) that they are a linear function of."""
        with _LastLinear() as last:  # type: ignore[no-untyped-call]
            embeddings: Tensor = self.network(views.bfloat16())
        assert last.seen is not None
        return embeddings.float(), last.seen.float()


class _LastLinear(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the input of the last linear layer that ran."""

    seen: Tensor | None = None

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        if operation is torch.ops.aten.addmm.default:
            self.seen = arguments[1]
        return operation(*arguments, **(options or {}))


class Pool:
    """Changed 112x112 views with the teacher's answers, filled as they are first asked for."""

    def __init__(self, pictures: Pictures, teacher: Teacher, folder: Path) -> None:
        """Open or create the pool's files in ``folder``."""
        self.pictures = pictures
        self.teacher = teacher
        self.indices = pictures.with_faces()
        count = VARIANTS * len(self.indices)
        folder.mkdir(parents=True, exist_ok=True)
        self.views = _array(folder / "views.npy", np.uint8, (count, faces.FRAME, faces.FRAME, 3))
        self.targets = _array(folder / "targets.npy", np.float32, (count, 512))
        self.features = _array(folder / "features.npy", np.float16, (count, FEATURES * 49))
        self.filled = _array(folder / "filled.npy", np.bool_, (count,))

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, Tensor, Tensor]:
        """Return views uint8 (N, 112, 112, 3), teacher's embeddings (N, 512) and features (N, 3136)."""
        missing = rows[~self.filled[rows]]
        if missing.size:
            for row in missing:
                self.views[row] = self.view(int(row))
            self.targets[missing], self.features[missing] = self.teacher.answer(to_batch(self.views[missing]))
            self.filled[missing] = True
        targets, features = torch.from_numpy(self.targets[rows]), torch.from_numpy(self.features[rows])
        return self.views[rows], targets, features.float()

    def view(self, row: int) -> np.ndarray:
        """Return a view, uint8 (112, 112, 3): moved, maybe blended with another, turned, warped, covered."""
        rng = np.random.default_rng(row)
        view = self._cut(rng)
        if rng.random() < BLENDED:
            view = augment.blended(rng, view, self._cut(rng))
        if rng.random() < TURNED:
            view = augment.turned(rng, view)
        if rng.random() < WARPED:
            view = augment.warped(rng, view)
        return augment.covered(rng, view, self._cut(rng)) if rng.random() < COVERED else view

    def _cut(self, rng: np.random.Generator) -> np.ndarray:
        index = self.pictures.any_face(rng)
        picture = self.pictures.picture(index)
        matrix = augment.jittered(rng, self.pictures.landmarks(index))
        view = faces.crop(picture, matrix, faces.FRAME)
        behind = self.pictures.picture(self.pictures.any_face(rng))
        return augment.surrounded(rng, view, matrix, picture, behind)


def _array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    mode = "r+" if path.exists() else "w+"
    return np.lib.format.open_memmap(path, mode, dtype, shape)


def to_batch(views: np.ndarray) -> Tensor:
    """Return uint8 (N, H, W, 3) views as float32 (N, 3, H, W), channels last."""
    return torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2).float()


def principal_axes(targets: Tensor) -> Tensor:
    """Return the (D, 256) leading principal axes of embeddings (N, D), by second moment about zero."""
    _, vectors = torch.linalg.eigh(targets.T.double() @ targets.double())
    axes: Tensor = vectors.flip(1)[:, :EMBEDDING].float()
    return axes


def closest_axes(targets: Tensor, embeddings: Tensor) -> Tensor:
    """Return the orthonormal (D, 256) axes nearest to the map from targets (N, D) to embeddings (N, 256).

    So embeddings of a run that goes on from kept weights mean what they did.  Schönemann 1966.
    """
    best = torch.linalg.lstsq(targets.double(), embeddings.double()).solution
    left, _, right = torch.linalg.svd(best, full_matrices=False)
    axes: Tensor = (left @ right).float()
    return axes


def linear_head(features: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (E, F) and bias (E,) of the best linear map from features (N, F) to embeddings (N, E)."""
    mean = features.mean(0)
    x, y = (features - mean).double(), (embeddings - embeddings.mean(0)).double()
    ridge = 1e-4 * x.square().mean() * len(x)
    weight = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.T @ y).T.float()
    return weight, embeddings.mean(0) - weight @ mean


def train(*, data: Path, runs: Path, teacher: Path, minutes: float) -> None:
    """Distil ``teacher`` (TorchScript) into the trunk on the sets ``train-*`` of ``data``."""
    torch.manual_seed(0)
    folder = runs / "embedding"
    pool = Pool(open_sets(data, "train-*", runs / "cache"), Teacher(teacher), folder / "pool")
    model = Trunk()
    known = warm(model)
    run = Run(folder, model, minutes=minutes, rate=RATE, weight_decay=0.05)
    spread_file, axes_file = folder / "spread.npy", folder / "axes.npy"
    if not spread_file.exists():
        targets, features, embeddings = _answers(pool, run.averaged)
        unit = F.normalize(targets)
        axes = closest_axes(unit, embeddings) if known else principal_axes(unit)
        np.save(axes_file, axes.numpy())
        weight, bias = linear_head(features, targets @ axes)
        for trunk in (run.model, run.averaged):
            trunk.embed.load_state_dict({"weight": weight, "bias": bias})
        np.save(spread_file, features.std(0).view(FEATURES, 49).mean(1).repeat_interleave(49).numpy())
    axes, spread = (torch.from_numpy(np.load(file)) for file in (axes_file, spread_file))
    rng = np.random.default_rng([run.step, run.worker])
    order = epochs(rng, len(pool.views), BATCH)
    for step in run.steps():
        views, targets, features = pool.batch(next(order))
        given = brightened(rng, to_batch(damaged(rng, views)))
        targets = F.normalize(targets @ axes)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            embedding, seen = model(given)
        embedding = F.normalize(embedding.float())
        distance = (embedding - targets).square().sum(1).mean()
        coarse = (coded(embedding)[1] - targets).square().sum(1).mean()
        relation = (embedding @ embedding.T - targets @ targets.T).square().mean()
        hint = ((seen.float() - features) / spread).square().mean()
        run.descend(distance + coarse + RELATION_WEIGHT * relation + FEATURES_WEIGHT * hint, clip=5.0)
        run.note(distance=distance.item(), coarse=coarse.item(), features=hint.item())
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


def warm(model: Trunk) -> bool:
    """Give a trunk the newest weights that were kept; tell whether there are any."""
    try:
        file = weights.load(weights.newest("trunk"))
    except WeightsError:
        return False
    model.load_state_dict(encoder.state(file, "trunk."))
    return True


@torch.no_grad()
def _answers(pool: Pool, trunk: Trunk) -> tuple[Tensor, ...]:
    """Return the teacher's embeddings and features, and the trunk's unit embeddings, of some views."""
    answers = []
    rows = np.arange(0, len(pool.indices), max(1, len(pool.indices) // FITTED))
    for part in np.array_split(rows, -(-len(rows) // BATCH)):
        views, targets, features = pool.batch(part)
        answers.append((targets, features, F.normalize(trunk(to_batch(views))[0])))
    return tuple(torch.cat(kind) for kind in zip(*answers, strict=True))


def coded(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Return identity codes (N, 256) of unit embeddings, and the unit embeddings that they stand for."""
    codes = snapped(embedding / IDENTITY_STEP, 1.0).clamp(-CODE_TOP, CODE_TOP)
    return codes, F.normalize(codes)


def damaged(rng: np.random.Generator, views: np.ndarray) -> np.ndarray:
    """Return uint8 views of which most are damaged."""
    return np.array([augment.degraded(rng, view) if rng.random() < DAMAGED else view for view in views])


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
