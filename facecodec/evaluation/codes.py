"""Identity codes of other sizes: what verification from them costs, face by face.

Float embeddings are quantised again, with other steps and fewer axes, and coded by the coder of the format
with static tables.  The tables are those of the very codes that are measured, which flatters them by what a
thousand faces cannot teach: a fraction of a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facecodec import rans
from facecodec.entropy import CODE_GROUP, CODE_TOP, code_groups
from facecodec.evaluation.looks import matrix
from facecodec.evaluation.recognition import cosines

if TYPE_CHECKING:
    from facecodec.evaluation.verify import Verification

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]

TARGETS = (16, 24, 32, 48, 64, 96)
"""Mean bytes a face, at most."""

AXES = (256, 192, 128, 96, 64, 48, 32)
PRECISION = 14
STATE = 1.5
"""Bytes of a stream beside what its symbols take."""

FINEST, COARSEST = 0.005, 0.6
SEARCH = 14
"""Halvings of the step's logarithm."""

WIDER = 1.02
"""Steps are widened by this factor until the files, rounded to words, are within their target."""


def curve(embeddings: Sequence[Floats | None], table: Verification) -> list[dict[str, Any]]:
    """Return figures by rising bytes of identity code, for unit embeddings (D,) of many pictures.

    For each size, of all numbers of axes that with the finest step for it whose codes keep the largest mean
    cosine.
    """
    there = [row for row, e in enumerate(embeddings) if e is not None]
    if not there:
        return []
    floats = matrix([embeddings[row] for row in there])
    points = []
    for target in TARGETS:
        kept = [
            (float(cosines(found.astype(np.float32), floats).mean()), axes, step)
            for axes in AXES
            if axes <= floats.shape[1]
            for step, found in [_finest(floats, axes, target)]
        ]
        _, axes, step = max(kept)
        codes, sizes = _within(floats, axes, step, target)
        decoded: list[Floats | None] = [None] * len(embeddings)
        for row, values in zip(there, codes.astype(np.float32), strict=True):
            decoded[row] = values
        figures = table.row(f"codes of {target} bytes", "embedding quantised again", decoded, embeddings)
        size = {"target": target, "axes": axes, "bytes": float(np.mean(sizes)), "most": max(sizes)}
        points.append(figures | size)
    return points


def quantised(floats: Floats, axes: int, step: float) -> Codes:
    """Return codes of magnitude CODE_TOP at most, rounded half up; those after the first ``axes`` are 0."""
    rounded = np.clip(np.floor(floats / np.float32(step) + 0.5), -CODE_TOP, CODE_TOP)
    rounded[:, axes:] = 0
    codes: Codes = rounded.astype(np.int32)
    return codes


def frequencies(codes: Codes) -> npt.NDArray[np.int64]:
    """Return one table (31,) for each eight axes of codes (faces, axes); what occurs has a part."""
    symbols = 2 * CODE_TOP + 1
    rows = []
    for first in range(0, codes.shape[1], CODE_GROUP):
        counts = np.bincount(codes[:, first : first + CODE_GROUP].ravel() + CODE_TOP, minlength=symbols)
        row = np.maximum(counts * (1 << PRECISION) // counts.sum(), counts > 0)
        row[np.argmax(row)] += (1 << PRECISION) - row.sum()
        rows.append(row)
    return np.array(rows, np.int64)


def coded_bytes(codes: Codes) -> list[int]:
    """Return the bytes of each face's codes (faces, axes) under their own static tables."""
    coders = tuple(rans.Table(row) for row in frequencies(codes))
    return [len(rans.encode(code_groups(codes[row : row + 1], coders))) for row in range(len(codes))]


def _information(codes: Codes) -> float:
    """Return about how many bytes a face needs."""
    rows = frequencies(codes)
    bits = np.where(rows > 0, PRECISION - np.log2(np.maximum(rows, 1)), 0.0)
    groups = np.repeat(np.arange(len(rows)), CODE_GROUP)[: codes.shape[1]]
    return float(bits[groups, codes + CODE_TOP].sum(1).mean()) / 8 + STATE


def _finest(floats: Floats, axes: int, target: int) -> tuple[float, Codes]:
    """Return the finest step whose codes need about these bytes, and the codes."""
    fine, coarse = FINEST, COARSEST
    for _ in range(SEARCH):
        middle = (fine * coarse) ** 0.5
        if _information(quantised(floats, axes, middle)) > target:
            fine = middle
        else:
            coarse = middle
    return coarse, quantised(floats, axes, coarse)


def _within(floats: Floats, axes: int, step: float, target: int) -> tuple[Codes, list[int]]:
    """Return codes whose mean bytes are within a target, and the bytes of each face."""
    while True:
        codes = quantised(floats, axes, step)
        sizes = coded_bytes(codes)
        if np.mean(sizes) <= target or step > 1:
            return codes, sizes
        step *= WIDER
