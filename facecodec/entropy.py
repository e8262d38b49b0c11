"""Integer tables and what is coded with them: codes of a face, and trits in the order of their tables.

Frozen: bitstream_spec.md, "Base layer" and "Enhancement layer".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import WeightsError
from .rans import Group, Table

CODE_TOP = 15
CODE_GROUP = 8
BATCH = 1 << 20
"""Symbols in order at once, at most; bounds memory, and changes nothing else."""

Integers = npt.NDArray[Any]


def tables(frequencies: Integers, name: str) -> tuple[Table, ...]:
    """Return one table a row of ``frequencies`` (n, symbols); raises WeightsError naming a bad one."""
    try:
        return tuple(Table(row) for row in frequencies)
    except ValueError as error:
        raise WeightsError(f"{name}: {error}") from None


def code_groups(codes: Integers, coders: Sequence[Table]) -> list[Group]:
    """Return the groups of codes (faces, 8 * tables); eight dimensions of all faces share one table.

    A code is its symbol less the middle of the alphabet, whose size is odd.
    """
    return [
        (codes[:, CODE_GROUP * g : CODE_GROUP * (g + 1)].ravel() + table.size // 2, table)
        for g, table in enumerate(coders)
    ]


def read_codes(take: Callable[[int, Table], Integers], faces: int, coders: Sequence[Table]) -> Integers:
    """Return the codes int32 (faces, 8 * tables) that ``take(count, table)`` gives: undo ``code_groups``."""
    symbols = np.array([take(faces * CODE_GROUP, table) for table in coders])
    symbols -= np.array([table.size // 2 for table in coders], np.int32)[:, None]
    codes: Integers = symbols.reshape(len(coders), faces, CODE_GROUP).transpose(1, 0, 2)
    return codes.reshape(faces, len(coders) * CODE_GROUP)


def ordered(due: npt.NDArray[np.bool_], told: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield positions that are due, flat (n,), and their tables: by table, then by position.

    ``told`` (n,) names the table of each.  A batch has at most ``BATCH`` of them; they may be due no longer
    when the next one is asked for.
    """
    whole: list[_Piece] = [(None, [slice(0, due.size)])]
    for wanted, parts in whole if due.size <= BATCH else _pieces(due, told):
        found = [_members(due, told, part, wanted) for part in parts]
        positions, named = (np.concatenate(kind) for kind in zip(*found, strict=True))
        if named.size:
            order = np.argsort(named, kind="stable")
            yield positions[order], named[order]


_Piece: TypeAlias = tuple[range | None, list[slice]]
"""A range of tables, None for all, and the parts in which those are looked for."""


def _members(
    due: npt.NDArray[np.bool_], told: Integers, part: slice, wanted: range | None
) -> tuple[Integers, Integers]:
    """Return positions in a part that are due, with a table that is wanted, or with any, and their tables."""
    named, chosen = told[part], due[part]
    if wanted is not None:
        chosen = chosen & (named >= wanted.start) & (named < wanted.stop)
    found = np.flatnonzero(chosen)
    return found + part.start, named[found]


def _pieces(due: npt.NDArray[np.bool_], told: Integers) -> list[_Piece]:
    """Divide what is due, in coding order, into pieces with at most ``BATCH`` of it."""
    parts = [slice(start, min(due.size, start + BATCH)) for start in range(0, due.size, BATCH)]
    count = np.zeros(1 << 16, np.int64)
    for part in parts:
        count += np.bincount(told[part][due[part]], minlength=1 << 16)
    ends = np.cumsum(count)
    pieces: list[_Piece] = []
    first = done = 0
    while done < ends[-1]:
        last = int(np.searchsorted(ends, done + BATCH, "right"))
        if last > first:
            pieces.append((range(first, last), parts))
        else:
            last = first + 1
            pieces += [(range(first, last), [part]) for part in parts]
        first, done = last, int(ends[last - 1])
    return pieces
