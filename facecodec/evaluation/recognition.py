"""Figures of verification: accuracy by the protocol of LFW, and true accepts at a rate of false ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def cosines(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of ``a`` (n, d) with that of ``b``, NaN where a row is NaN."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(norms, 1e-12), np.float64)


def threshold(similarities: Floats, same: Bools) -> float:
    """Return a threshold that judges most pairs right: the middle one of the best, halfway between two pairs.

    NaN, the similarity of a pair that could not be compared, says nothing.
    """
    usable = ~np.isnan(similarities)
    order = np.argsort(similarities[usable], kind="stable")
    sorted_, sorted_same = similarities[usable][order], same[usable][order]
    if not len(sorted_):
        return 0.0
    below = np.concatenate([[0], np.cumsum(~sorted_same)])
    above = np.concatenate([[0], np.cumsum(sorted_same)])
    right = below + above[-1] - above
    edges = np.concatenate([[sorted_[0] - 1], (sorted_[1:] + sorted_[:-1]) / 2, [sorted_[-1] + 1]])
    distinct = np.concatenate([[True], sorted_[1:] > sorted_[:-1], [True]])
    best = np.flatnonzero(distinct & (right == right[distinct].max()))
    return float(edges[best[len(best) // 2]])


def accuracy(similarities: Floats, same: Bools, folds: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean accuracy over the folds, and its standard error.

    Each fold is judged by the threshold that the others choose.  A pair that could not be compared, NaN, is
    judged wrongly whatever it is.
    """
    right = []
    for fold in np.unique(folds):
        here = folds == fold
        limit = threshold(similarities[~here], same[~here])
        decided = (similarities[here] >= limit) == same[here]
        right.append(np.mean(decided & ~np.isnan(similarities[here])))
    return float(np.mean(right)), float(np.std(right) / np.sqrt(max(1, len(right) - 1)))


def person(id: str) -> str | None:
    """Return who a picture shows by its id ``NAME_0001``, None where it does not say."""
    match = re.fullmatch(r"(.+)_\d{4}", id)
    return match[1] if match else None


def true_accept_rate(
    embeddings: Floats, people: Sequence[str | None], false_accept_rate: float
) -> float | None:
    """Return the share of pairs of one person above the threshold that this share of other pairs passes.

    Over all pairs of rows of ``embeddings`` (n, d), NaN where no face was found: such pairs are not accepted.
    None where people are unknown, or the pairs are too few for the rate.
    """
    if None in people:
        return None
    who = np.unique(np.array(people, str), return_inverse=True)[1]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    genuine, impostor = [], []
    for row in range(len(unit) - 1):
        similar = np.nan_to_num(unit[row + 1 :] @ unit[row], nan=-1.0)
        own = who[row + 1 :] == who[row]
        genuine.append(similar[own])
        impostor.append(similar[~own])
    others, own_ = np.concatenate(impostor or [[]]), np.concatenate(genuine or [[]])
    passed = int(len(others) * false_accept_rate)
    if not passed or not len(own_):
        return None
    limit = np.partition(others, len(others) - passed - 1)[len(others) - passed - 1]
    return float(np.mean(own_ > limit))
