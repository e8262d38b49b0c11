"""Integer tables and what is coded with them: codes of a face, and refinements of a latent.

A latent is refined in ternary steps.  Its tree has one node for each interval of its range; coding a trit
at a node moves to the third of the interval that holds the latent.  ``Trees`` keeps, for each of the scales
that the prior can name, the frequencies of the three thirds, the value that stands for each interval, and
the rank that says when a node is refined.  Frozen: bitstream_spec.md, "Base layer" and "Enhancement layer".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import WeightsError
from .rans import Group, Table

CODE_TOP = 15
CODE_GROUP = 8
DEPTH = 5
INNER = (3**DEPTH - 1) // 2
NODES = (3 ** (DEPTH + 1) - 1) // 2
MAX_SCALES = 256
MAX_VALUE = 32_767
LEAF = 255
"""The rank of a node that is not refined further."""

Integers = npt.NDArray[Any]


def tables(frequencies: Integers, name: str) -> tuple[Table, ...]:
    """Return one table a row of ``frequencies`` (n, symbols); raises WeightsError naming a bad one."""
    try:
        return tuple(Table(row) for row in frequencies)
    except ValueError as error:
        raise WeightsError(f"{name}: {error}") from None


def code_groups(codes: Integers, coders: Sequence[Table]) -> list[Group]:
    """Return the groups of codes (faces, 8 * tables), -15..15; eight dimensions of all faces share one."""
    return [
        (codes[:, CODE_GROUP * g : CODE_GROUP * (g + 1)].ravel() + CODE_TOP, table)
        for g, table in enumerate(coders)
    ]


def read_codes(take: Callable[[int, Table], Integers], faces: int, coders: Sequence[Table]) -> Integers:
    """Return the codes int32 (faces, 8 * tables) that ``take(count, table)`` gives: undo ``code_groups``."""
    columns = [take(faces * CODE_GROUP, table).reshape(faces, CODE_GROUP) for table in coders]
    return np.concatenate(columns, 1) - CODE_TOP


@dataclass(frozen=True, eq=False)
class Trees:
    """The refinement trees of all scales.

    ``value`` int16 (scales, 364): what a node stands for, relative to the mean, in 1/16 step.  ``rank`` uint8
    (scales, 121): when its trit is coded, 255 for a leaf; a child's rank is above its parent's.  ``coders``:
    the table of each (scale, inner node).  ``planes`` (scales,): depth of each tree.
    """

    value: npt.NDArray[np.int16]
    rank: npt.NDArray[np.uint8]
    planes: npt.NDArray[np.uint8]
    coders: dict[tuple[int, int], Table]

    @classmethod
    def from_integers(cls, frequencies: Integers, value: Integers, rank: Integers, planes: Integers) -> Trees:
        """Check and arrange the stored integers; raises WeightsError."""
        scales = len(planes)
        if not 1 <= scales <= MAX_SCALES or planes.min() < 1 or planes.max() > DEPTH:
            raise WeightsError("there are too many or too few refinement trees, or one of impossible depth")
        if not (
            -MAX_VALUE <= value.min() <= value.max() <= MAX_VALUE and 0 <= rank.min() <= rank.max() <= LEAF
        ):
            raise WeightsError("a value or a rank of a refinement tree is out of range")
        for scale in range(scales):
            inner = (3 ** int(planes[scale]) - 1) // 2
            parents = (np.arange(1, inner) - 1) // 3
            if (rank[scale, :inner] == LEAF).any() or (rank[scale, 1:inner] <= rank[scale, parents]).any():
                raise WeightsError(f"the refinement tree of scale {scale} has ranks out of order")
            if (rank[scale, inner:] != LEAF).any():
                raise WeightsError(f"the refinement tree of scale {scale} has ranks on leaves")
        where = np.argwhere(rank != LEAF)
        coders = tables(frequencies[where[:, 0], where[:, 1]], "refinement trees")
        keys = [(scale, node) for scale, node in where.tolist()]
        padded = np.full((scales, NODES), LEAF, np.uint8)
        padded[:, :INNER] = rank
        return cls(
            value.astype(np.int16), padded, planes.astype(np.uint8), dict(zip(keys, coders, strict=True))
        )

    @property
    def last_rank(self) -> int:
        """The highest rank of any node."""
        return int(self.rank[self.rank != LEAF].max())

    def walk(
        self,
        scale: npt.NDArray[np.uint8],
        trits: Callable[[npt.NDArray[np.intp], Table, int], Integers],
        last_rank: int = LEAF - 1,
    ) -> npt.NDArray[np.int16]:
        """Refine latents of these scales, flat (n,), in coding order; return the node that each one reaches.

        Rank by rank, within a rank by scale, then by node, then in order of position, ``trits(positions,
        table, node)`` gives the trits 0..2 of the latents at ``positions``; fewer than asked end the walk.
        """
        node = np.zeros(scale.size, np.int16)
        rank = self.rank[scale, 0]
        for current in range(last_rank + 1):
            chosen = np.flatnonzero(rank == current)
            if not chosen.size:
                continue
            key = scale[chosen] * np.uint16(INNER) + node[chosen].astype(np.uint16)
            order = np.argsort(key, kind="stable")
            chosen, key = chosen[order], key[order]
            changes = np.flatnonzero(key[1:] != key[:-1]) + 1
            for start, stop in pairwise([0, *changes.tolist(), chosen.size]):
                positions, (tree, at) = chosen[start:stop], divmod(int(key[start]), INNER)
                given = trits(positions, self.coders[tree, at], at)
                node[positions[: given.size]] = 3 * at + 1 + given
                if given.size < positions.size:
                    return node
            rank[chosen] = self.rank[scale[chosen], node[chosen]]
        return node


def depth_of(node: int) -> int:
    """Return how many trits lead to a node."""
    depth, first = 0, 0
    while node >= 3 * first + 1:
        depth, first = depth + 1, 3 * first + 1
    return depth


def trit_of(latent: Integers, planes: Integers, depth: int) -> Integers:
    """Return the trit 0..2 that latents up to (3^planes - 1)/2 in magnitude take after ``depth`` others."""
    power = 3 ** planes.astype(np.int32)
    trit: Integers = (latent + (power - 1) // 2) // (power // 3 ** (depth + 1)) % 3
    return trit
