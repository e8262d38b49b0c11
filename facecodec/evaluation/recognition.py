"""Figures of verification: accuracy by the protocol of LFW, and true accepts at a rate of false ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

BINS = 100_000
"""Of equal width, for cosines from -1 to 1: what a threshold at a false accept rate is exact to."""


def cosines(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of ``a`` (n, d) with that of ``b``, NaN where a row is NaN."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(norms, 1e-12), np.float64)


def cosine(a: Floats | None, b: Floats | None) -> float | None:
    """Return the cosine of two embeddings (D,), None where one is missing."""
    return None if a is None or b is None else float(cosines(a[None], b[None])[0])


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


def decisions(similarities: Floats, same: Bools, folds: npt.NDArray[np.int64]) -> Bools:
    """Return for each pair whether it is judged rightly, by the threshold that the other folds choose.

    A pair that could not be compared, NaN, is judged wrongly whatever it is.
    """
    right = np.zeros(len(same), np.bool_)
    for fold in np.unique(folds):
        here = folds == fold
        limit = threshold(similarities[~here], same[~here])
        right[here] = ((similarities[here] >= limit) == same[here]) & ~np.isnan(similarities[here])
    return right


def accuracy(right: Bools, folds: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean over the folds of the share of right decisions, and its standard error."""
    shares = [float(np.mean(right[folds == fold])) for fold in np.unique(folds)]
    return float(np.mean(shares)), float(np.std(shares) / np.sqrt(max(1, len(shares) - 1)))


def person(id: str) -> str | None:
    """Return who a picture shows by its id ``NAME_0001``, None where it does not say."""
    match = re.fullmatch(r"(.+)_\d{4}", id)
    return match[1] if match else None


def histogram(similarities: Floats) -> Counts:
    """Return how many similarities -1..1 lie in each of BINS equal bins; NaN counts as -1."""
    known = np.nan_to_num(np.asarray(similarities, np.float64), nan=-1.0)
    bins = np.floor((known + 1) * (BINS / 2)).astype(np.int64)
    return np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


def all_pairs(embeddings: Floats, people: Sequence[str]) -> tuple[Counts, Counts]:
    """Return histograms of the cosines of all pairs of rows (n, d): of one person, and of different ones.

    A row of NaN, where no face was found, is like nobody.
    """
    who = np.unique(np.array(people, str), return_inverse=True)[1]
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.asarray(embeddings, np.float64) / np.maximum(norms, 1e-12)
    genuine, impostor = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    for row in range(len(unit) - 1):
        similar = unit[row + 1 :] @ unit[row]
        own = who[row + 1 :] == who[row]
        genuine += histogram(similar[own])
        impostor += histogram(similar[~own])
    return genuine, impostor


def limit(impostor: Counts, false_accept_rate: float) -> float | None:
    """Return the lowest threshold, the edge of a bin, that at most this share passes; None of too few."""
    passed = int(impostor.sum() * false_accept_rate)
    if not passed:
        return None
    above = np.cumsum(impostor[::-1])[::-1]
    first = int(np.argmax(np.append(above, 0) <= passed))
    return first * 2 / BINS - 1


def above(counts: Counts, threshold: float) -> float | None:
    """Return the share of a histogram at or above the edge of a bin, None of nothing."""
    total = int(counts.sum())
    return float(counts[round((threshold + 1) * BINS / 2) :].sum() / total) if total else None


def true_accept_rate(genuine: Counts, impostor: Counts, false_accept_rate: float) -> float | None:
    """Return the share of pairs of one person above the threshold that this share of other pairs passes.

    None where the pairs are too few for the rate.
    """
    at = limit(impostor, false_accept_rate)
    return None if at is None else above(genuine, at)


def roc(genuine: Counts, impostor: Counts, points: int = 60) -> list[tuple[float, float]]:
    """Return (false, true accept rate) at rates evenly spaced in logarithm, from one pair's share to 1."""
    if not (genuine.sum() and impostor.sum()):
        return []
    rates = np.geomspace(1 / impostor.sum(), 1, points)
    found = [(float(rate), true_accept_rate(genuine, impostor, rate * (1 + 1e-9))) for rate in rates]
    return [(rate, share) for rate, share in found if share is not None]


def resampled(right: Bools, same: Bools, replicates: int = 1000, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return the accuracy (replicates, n) of decisions (n, pairs) over pairs drawn again with replacement.

    Equally many of both kinds as there are; each threshold stays as it was; the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros((replicates, len(same)))
    for kind in (True, False):
        here = np.flatnonzero(same == kind)
        if len(here):
            drawn[:, here] = rng.multinomial(len(here), np.full(len(here), 1 / len(here)), replicates)
    return np.asarray(drawn @ right.T.astype(np.float64) / max(1, len(same)), np.float64)
