"""Pairs of pictures of the same or of different people: CSV, or the ``pairs.txt`` of LFW."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facecodec import files
from facecodec.errors import FscError

FOLDS = 10


@dataclass(frozen=True)
class Pairs:
    """Ids of pictures pair by pair, ``same`` bool (n,), and ``folds`` int (n,), the tenth each belongs to."""

    ids: tuple[tuple[str, str], ...]
    same: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.int64]

    def pictures(self) -> list[str]:
        """Return every id once, in the order of first mention."""
        return list(dict.fromkeys(id for pair in self.ids for id in pair))

    def taken(self, rows: Sequence[int]) -> Pairs:
        """Return the pairs of some rows."""
        return Pairs(tuple(self.ids[row] for row in rows), self.same[rows], self.folds[rows])


def read_pairs(path: Path) -> Pairs:
    """Read a file of pairs; raises FscError.

    CSV has the columns ``a``, ``b`` (ids of pictures) and ``same`` (1 or 0), and is dealt into ten folds.
    ``pairs.txt`` begins with the number of folds (or they are dealt) and of pairs of a kind in each;
    then a line a pair, ``NAME n m`` or ``NAME n OTHER m``: the pictures ``NAME_000n`` and so on.
    """
    lines = [line for line in files.read(path).decode("utf-8-sig", "replace").splitlines() if line.strip()]
    if not lines:
        raise FscError(f"{path} holds no pairs")
    if re.fullmatch(r"\d+(\s+\d+)?", lines[0].strip()):
        return _read_txt(path, lines)
    return _read_csv(path, lines)


def deal(same: npt.NDArray[np.bool_], folds: int = FOLDS, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return a fold for each pair, with equally many of both kinds in each, the same for the same seed."""
    dealt = np.empty(len(same), np.int64)
    for kind in (True, False):
        chosen = np.flatnonzero(same == kind)
        dealt[np.random.default_rng(seed).permutation(chosen)] = np.arange(len(chosen)) % folds
    return dealt


def _read_csv(path: Path, lines: list[str]) -> Pairs:
    rows = list(csv.DictReader(lines))
    if not rows or not {"a", "b", "same"} <= rows[0].keys():
        raise FscError(f"{path} is neither CSV with the columns a, b, same nor an LFW pairs.txt")
    for number, row in enumerate(rows, 2):
        if row["same"] not in ("0", "1") or not (row["a"] and row["b"]):
            raise FscError(f"{path}, line {number}: a pair is two ids, and 1 or 0")
    same = np.array([row["same"] == "1" for row in rows])
    return Pairs(tuple((row["a"], row["b"]) for row in rows), same, deal(same))


def _read_txt(path: Path, lines: list[str]) -> Pairs:
    counts = [int(word) for word in lines[0].split()]
    ids, same = [], []
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        if not (len(words) in (3, 4) and words[1].isdigit() and words[-1].isdigit()):
            raise FscError(f"{path}, line {number}: a pair is NAME n m or NAME n OTHER m")
        first, second = words[0], words[-2] if len(words) == 4 else words[0]
        ids.append((f"{first}_{int(words[1]):04}", f"{second}_{int(words[-1]):04}"))
        same.append(len(words) == 3)
    expected = 2 * math.prod(counts)
    if len(ids) != expected:
        raise FscError(f"{path} says that it holds {expected} pairs, and holds {len(ids)}")
    kinds = np.array(same)
    folds = np.arange(len(ids)) // (2 * counts[1]) if len(counts) == 2 else deal(kinds)
    return Pairs(tuple(ids), kinds, folds)
