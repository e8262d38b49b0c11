"""Train the trunk's embedding by distillation: first each block by itself, then the trunk as a whole.

A block learns what the teacher's block makes of the teacher's map (FitNets, Romero et al., ICLR 2015, arXiv
1412.6550; block by block as Li et al., CVPR 2020, arXiv 1911.13053).  Then both see one face, the student
damaged: function matching (Beyer et al., CVPR 2022, arXiv 2106.05237) over a pool of views, changed in many
ways.  The teacher answers once a view, and sees it as it is; the student sees it with new damage each time,
which its embedding should ignore.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facecodec import faces, weights
from facecodec.errors import WeightsError
from facecodec.networks import encoder
from facecodec.networks.embedding import EMBEDDING, FEATURES, Bottleneck, Trunk, scaled
from facecodec.networks.quantised import snapped
from facecodec.training import augment
from facecodec.training.data import Pictures, open_sets
from facecodec.training.run import Run
from facecodec.training.teacher import Teacher

BATCH = 64
VARIANTS = 4
BLENDED = 0.25
TURNED = 0.4
WARPED = 0.3
COVERED = 0.25
DAMAGED = 0.6
RATE = 5e-4
MATRIX_RATE = 0.003
BLOCKS_RATE = 2e-2
BLOCKS_MATRIX_RATE = 0.1
BLOCKS_SHARE = 0.4
"""The share of the time in which each block learns by itself."""
LESSONS = 4
"""So many blocks with a shortcut learn at each step; the others, which have more to learn, at all of them."""
WINDOW = 14
"""Pixels a side of the part of a larger map that a block is to make."""
REACH = 2
"""Pixels of a block's map around that part, from whose surroundings it follows, too."""
RELATION_WEIGHT = 4.0
FEATURES_WEIGHT = 1.0
MAPS_WEIGHT = 0.3
IDENTITY_STEP = 0.066
CODE_TOP = 15
FITTED = 9000
LOG_STEPS = 100


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
        self.made, self.answered = (
            _array(folder / f"{name}.npy", np.bool_, (count,)) for name in ("made", "answered")
        )

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, Tensor, Tensor]:
        """Return views uint8 (N, 112, 112, 3), teacher's embeddings (N, 512) and features (N, 3136)."""
        views = self.look(rows)
        missing = ~self.answered[rows]
        if missing.any():
            new = rows[missing]
            self.targets[new], self.features[new] = self.teacher.answer(to_batch(views[missing]))
            self.answered[new] = True
        targets, features = torch.from_numpy(self.targets[rows]), torch.from_numpy(self.features[rows])
        return views, targets, features.float()

    def look(self, rows: np.ndarray) -> np.ndarray:
        """Return views uint8 (N, 112, 112, 3)."""
        for row in rows[~self.made[rows]]:
            self.views[row] = self.view(int(row))
        self.made[rows] = True
        views: np.ndarray = self.views[rows]
        return views

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
    """Return axes (D, 256): the principal ones of targets (N, D), turned towards embeddings (N, 256).

    So embeddings of a run that goes on from kept weights mean what they did.  Schönemann 1966.
    """
    axes = principal_axes(targets)
    left, _, right = torch.linalg.svd((targets @ axes).T.double() @ embeddings.double())
    turned: Tensor = axes @ (left @ right).float()
    return turned


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
    blocks = Run(
        folder / "blocks",
        model,
        minutes=BLOCKS_SHARE * minutes,
        rate=BLOCKS_RATE,
        matrix_rate=BLOCKS_MATRIX_RATE,
        kernels=pointwise(model),
    )
    if not known and not (folder / "checkpoint.safetensors").exists():
        learn_blocks(blocks, pool)
        model.load_state_dict(blocks.averaged.state_dict())
    left = minutes - blocks.seconds / 60
    run = Run(
        folder,
        model,
        minutes=left,
        rate=RATE,
        weight_decay=0.05,
        matrix_rate=MATRIX_RATE,
        kernels=pointwise(model),
    )
    learn_whole(run, pool, known=known)


def pointwise(model: nn.Module) -> list[nn.Parameter]:
    """Return the kernels of all 1x1 convolutions."""
    return [p for p in model.parameters() if p.ndim == 4 and p.shape[2:] == (1, 1)]


def learn_blocks(run: Run[Trunk], pool: Pool) -> None:
    """Teach each block by itself to make of the teacher's maps what the teacher's block makes of them."""
    rng = np.random.default_rng([run.step, run.worker])
    order = epochs(rng, len(pool.views), BATCH)
    blocks = run.model.blocks
    adding = [i for i, block in enumerate(blocks) if isinstance(block, Bottleneck) and block.shortcut]
    making = [i for i in range(len(blocks)) if i not in adding]
    for step in run.steps():
        views = to_batch(pool.look(next(order)))
        maps = [scaled(views), *pool.teacher.maps(views)]
        loss = torch.zeros(())
        chosen = np.random.default_rng(step).choice(adding, LESSONS, replace=False).tolist()
        for index in making + chosen:
            off = lesson(rng, blocks[index], maps[index], maps[index + 1])
            share = LESSONS / len(adding) if index in chosen else 1
            run.note(**{f"block_{index}": off.item() / share})
            loss = loss + off
        run.descend(loss, clip=5.0)
        if step % LOG_STEPS == LOG_STEPS - 1:
            run.log()


def lesson(rng: np.random.Generator, block: nn.Module, given: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared error of a block that sees one map (N, C, H, W) and is to make another.

    In shares of the variance of what it adds.  Of a large map one corner, without what follows from what
    is cut off.
    """
    whole, sides = wanted.shape[-1], rng.integers(0, 2, 2)
    seen = corner(given, sides, given.shape[-1] // whole * min(whole, WINDOW + REACH))
    with torch.autocast("cpu", torch.bfloat16):
        made: Tensor = block(seen)
    size = min(whole, WINDOW)
    target = corner(wanted, sides, size).float()
    added = target - corner(given, sides, size) if given.shape == wanted.shape else target
    return error(corner(made, sides, size), target, added)


def error(made: Tensor, wanted: Tensor, part: Tensor | None = None) -> Tensor:
    """Return the mean squared error of a map, in shares of the variance of the wanted one or a part of it."""
    wanted = wanted.float()
    return (made - wanted).square().mean() / (wanted if part is None else part).var()


def corner(maps: Tensor, sides: np.ndarray, size: int) -> Tensor:
    """Return so many pixels a side of maps: of the top or the bottom (0 or 1), and the left or the right."""
    top, left = (np.array(maps.shape[2:]) - size) * sides
    return maps[:, :, top : top + size, left : left + size]


def learn_whole(run: Run[Trunk], pool: Pool, *, known: bool) -> None:
    """Teach a trunk the teacher's answers to faces that it sees damaged; ``known`` ones keep their axes."""
    spread_file, axes_file = run.folder / "spread.npy", run.folder / "axes.npy"
    if not run.step:
        parts = _parts(pool)
        targets, features = (
            torch.cat(kind) for kind in zip(*(pool.batch(p)[1:] for p in parts), strict=True)
        )
        if not axes_file.exists():
            unit = F.normalize(targets)
            axes = (
                closest_axes(unit, _embeddings(pool, parts, run.averaged)) if known else principal_axes(unit)
            )
            np.save(axes_file, axes.numpy())
        weight, bias = linear_head(features, targets @ torch.from_numpy(np.load(axes_file)))
        for trunk in (run.model, run.averaged):
            trunk.embed.load_state_dict({"weight": weight, "bias": bias})
        np.save(spread_file, features.std(0).view(FEATURES, 49).mean(1).repeat_interleave(49).numpy())
    axes, spread = (torch.from_numpy(np.load(file)) for file in (axes_file, spread_file))
    rng = np.random.default_rng([run.step, run.worker])
    order = epochs(rng, len(pool.views), BATCH)
    for step in run.steps():
        views, targets, features = pool.batch(next(order))
        shown = damaged(rng, views)
        spared = (shown == views).all((1, 2, 3))
        given = brightened(rng, to_batch(shown))
        targets = F.normalize(targets @ axes)
        with torch.autocast("cpu", torch.bfloat16):
            made = run.model.maps(given)
            seen = made[-1].flatten(1)
            embedding = run.model.embed(seen)
        embedding = F.normalize(embedding.float())
        between = torch.zeros(())
        if spared.any():
            for mine, wanted in zip(made, pool.teacher.maps(given[spared]), strict=True):
                between = between + error(mine[spared], wanted)
        distance = (embedding - targets).square().sum(1).mean()
        coarse = (coded(embedding)[1] - targets).square().sum(1).mean()
        relation = (embedding @ embedding.T - targets @ targets.T).square().mean()
        hint = ((seen.float() - features) / spread).square().mean()
        near = distance + coarse + RELATION_WEIGHT * relation
        run.descend(near + FEATURES_WEIGHT * hint + MAPS_WEIGHT * between, clip=5.0)
        run.note(distance=distance.item(), coarse=coarse.item(), features=hint.item(), maps=between.item())
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


def _parts(pool: Pool) -> list[np.ndarray]:
    """Return the rows of some views, in batches."""
    rows = np.arange(0, len(pool.indices), max(1, len(pool.indices) // FITTED))
    return np.array_split(rows, -(-len(rows) // BATCH))


@torch.no_grad()
def _embeddings(pool: Pool, parts: list[np.ndarray], trunk: Trunk) -> Tensor:
    """Return a trunk's unit embeddings (N, 256) of these views."""
    return F.normalize(torch.cat([trunk(to_batch(pool.look(part)))[0] for part in parts]))


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
