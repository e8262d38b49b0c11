"""Integer tables and what is coded with them: codes of a face, and refinements of a latent.

A latent is refined in ternary steps.  Its tree has one node for each interval of its range; coding a trit
at a node moves to the third of the interval that holds the latent.  ``Trees`` keeps, for each of the scales
that the prior can name, the frequencies of the three thirds, the value that stands for each interval, and
the rank that says when a node is refined.  Frozen: bitstream_spec.md, "Base layer" and "Enhancement layer".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import WeightsError
from .rans import Group, Table, Tables

CODE_TOP = 15
CODE_GROUP = 8
DEPTH = 7
INNER = (3**DEPTH - 1) // 2
NODES = (3 ** (DEPTH + 1) - 1) // 2
MAX_SCALES = (1 << 16) // INNER
MAX_VALUE = 32_767
LEAF = 255
"""The rank of a node that is not refined further."""
OPEN = 4
"""Trits still to come, at least, for a latent to be undecided."""
EVERY_TURN = range(LEAF)
BATCH = 1 << 20
"""Latents refined at once, at most; bounds memory, and changes nothing else."""

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


@dataclass(frozen=True, eq=False)
class Trees:
    """The refinement trees of all scales.

    ``value`` int16 (scales, 3280): what a node stands for, relative to the mean, in 1/8 step.  ``rank`` uint8
    (scales, 1093): when its trit is coded, 255 for a leaf; a child's rank is above its parent's.  ``planes``
    uint8 (scales,): depth of each tree.  ``coders``: the table of each state; a state is 1093 * scale + node.
    """

    value: npt.NDArray[np.int16]
    rank: npt.NDArray[np.uint8]
    planes: npt.NDArray[np.uint8]
    coders: Tables

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
        inner = np.arange(INNER) < (3 ** planes.astype(np.int64)[:, None] - 1) // 2
        unordered = inner & (rank == LEAF)
        unordered[:, 1:] |= inner[:, 1:] & (rank[:, 1:] <= rank.repeat(3, axis=1)[:, : INNER - 1])
        for scale in np.flatnonzero(unordered.any(1))[:1]:
            raise WeightsError(f"the refinement tree of scale {scale} has ranks out of order")
        for scale in np.flatnonzero((~inner & (rank != LEAF)).any(1))[:1]:
            raise WeightsError(f"the refinement tree of scale {scale} has ranks on leaves")
        unused = np.array([4094, 1, 1], np.uint16)
        try:
            coders = Tables(np.where(rank[:, :, None] == LEAF, unused, frequencies).reshape(-1, 3))
        except ValueError as error:
            raise WeightsError(f"refinement trees: {error}") from None
        return cls(value.astype(np.int16), rank.astype(np.uint8), planes.astype(np.uint8), coders)

    @cached_property
    def ranks(self) -> list[int]:
        """All ranks of inner nodes, rising."""
        ranks: list[int] = np.flatnonzero(np.bincount(self.rank.ravel())[:LEAF]).tolist()
        return ranks

    @property
    def last_rank(self) -> int:
        """The highest rank of any node."""
        return self.ranks[-1]

    @cached_property
    def undecided(self) -> npt.NDArray[np.bool_]:
        """Which nodes (scales, 3280) are reached by middle thirds alone, with OPEN or more trits to come."""
        nodes = np.zeros(self.value.shape, np.bool_)
        for depth in range(DEPTH - OPEN + 1):
            nodes[self.planes >= depth + OPEN, 3**depth - 1] = True
        return nodes

    @cached_property
    def rank_above(self) -> Integers:
        """The rank of the parent of each node, uint8 (scales, 3280); that of the root is 255."""
        above = self.rank.repeat(3, axis=1)
        return np.pad(above, ((0, 0), (1, 0)), constant_values=LEAF)

    @cached_property
    def rank_at(self) -> Integers:
        """The rank of each node, uint8 (scales, 3280), 255 for a leaf."""
        return np.pad(self.rank, ((0, 0), (0, NODES - INNER)), constant_values=LEAF)

    def turns(self, delay: npt.NDArray[np.uint8]) -> list[int]:
        """Return the turns, rising, in which latents of these delays can be refined."""
        lates: list[int] = np.flatnonzero(np.bincount(delay.ravel())).tolist()
        return sorted({rank + late for rank in self.ranks for late in lates})

    def due(self, scale: npt.NDArray[np.uint8], node: Integers, late: Integers) -> Integers:
        """Return the turns in which latents of these scales at these nodes are refined next, 255 for never.

        ``late`` is how many turns they are put off.
        """
        rank = self.rank_at[scale, node]
        turns: Integers = np.where(rank == LEAF, rank, rank + late)
        return turns

    def walk(
        self,
        scale: npt.NDArray[np.uint8],
        delay: npt.NDArray[np.uint8],
        trits: Callable[[Integers], Integers],
        *,
        node: npt.NDArray[np.uint16] | None = None,
        told: npt.NDArray[np.uint8] | None = None,
        turns: range = EVERY_TURN,
    ) -> npt.NDArray[np.uint16]:
        """Refine latents of these scales, flat (n,), in coding order; return the node that each one reaches.

        A latent's turn is the rank of its node, put off by ``delay``, flat, of the first latents and again of
        as many that follow.  Turn by turn, within a turn by state, within a state by position,
        ``trits(states)`` gives the trits 0..2 of the next latents; fewer than asked end the walk.  It begins
        at ``node``, which it leads on, or at the roots, and takes these ``turns``; states are those of the
        scales that are ``told``, if they are others than those that ranks go by.
        """
        node = np.zeros(scale.size, np.uint16) if node is None else node
        coding = scale if told is None else told
        due = np.empty(scale.size, np.uint8)
        for part in _slices(scale.size):
            rank = self.rank_at[scale[part], node[part]]
            due[part] = _put_off(rank, delay, np.arange(part.start, part.stop))

        def states(part: slice) -> Integers:
            standing: Integers = coding[part] * np.uint16(INNER) + node[part]
            return standing

        for turn in self.turns(delay):
            if turn not in turns:
                continue
            for positions, state in _batches(due, turn, states):
                given = trits(state)
                positions = positions[: given.size]
                reached = 3 * node[positions] + np.uint16(1) + given.astype(np.uint16)
                node[positions] = reached
                due[positions] = _put_off(self.rank_at[scale[positions], reached], delay, positions)
                if given.size < state.size:
                    return node
        return node

    def retrace(
        self,
        scale: npt.NDArray[np.uint8],
        delay: npt.NDArray[np.uint8],
        node: npt.NDArray[np.uint16],
        *,
        told: npt.NDArray[np.uint8] | None = None,
        turns: range = EVERY_TURN,
    ) -> Iterator[tuple[Integers, Integers]]:
        """Yield trits and states of these turns of a walk that ends at nodes, flat (n,), last batch first.

        Leads ``node`` back to where these turns found it.
        """
        coding = scale if told is None else told
        due = np.empty(node.size, np.uint8)
        for part in _slices(node.size):
            above = self.rank_above[scale[part], node[part]]
            due[part] = _put_off(above, delay, np.arange(part.start, part.stop))

        def states(part: slice) -> Integers:
            parent = (node[part] - np.uint16(1)) // np.uint16(3)
            before: Integers = coding[part] * np.uint16(INNER) + parent
            return before

        for turn in reversed(self.turns(delay)):
            if turn not in turns:
                continue
            for positions, state in _batches(due, turn, states, backwards=True):
                parent = state % np.uint16(INNER)
                yield node[positions] - (3 * parent + np.uint16(1)), state
                node[positions] = parent
                due[positions] = _put_off(self.rank_above[scale[positions], parent], delay, positions)

    def leaves(self, latents: Integers, scale: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
        """Return the leaf of each latent, flat (n,); those beyond their tree stay at its edge."""
        node = np.empty(scale.size, np.uint16)
        tops = 3 ** self.planes.astype(np.int32) // 2
        for part in _slices(scale.size):
            top = tops[scale[part]]
            node[part] = 2 * top + np.clip(latents[part], -top, top)
        return node

    def climb(
        self,
        scale: npt.NDArray[np.uint8],
        delay: npt.NDArray[np.uint8],
        node: npt.NDArray[np.uint16],
        last_turn: int,
    ) -> None:
        """Lead leaves, flat (n,), back to the nodes where turns up to ``last_turn`` leave their latents."""
        if last_turn >= self.turns(delay)[-1]:
            return
        for part in _slices(node.size):
            tree, at, positions = scale[part], node[part], np.arange(part.start, part.stop)
            for _ in range(DEPTH):
                turn = _put_off(self.rank_above[tree, at], delay, positions)
                early = (turn <= last_turn) | (turn == LEAF)
                at = np.where(early, at, (at - np.uint16(1)) // np.uint16(3))
            node[part] = at


def _put_off(
    rank: npt.NDArray[np.uint8], delay: npt.NDArray[np.uint8], positions: Integers
) -> npt.NDArray[np.uint8]:
    """Return the turns of latents at these positions whose nodes have these ranks; that of a leaf stays."""
    turn: npt.NDArray[np.uint8] = np.where(rank == LEAF, rank, rank + delay[positions % delay.size])
    return turn


_Piece: TypeAlias = tuple[range | None, list[slice]]
"""A range of states, None for all, and the parts in which those are looked for."""


def _batches(
    due: Integers, turn: int, states: Callable[[slice], Integers], *, backwards: bool = False
) -> Iterator[tuple[Integers, Integers]]:
    """Yield positions at which ``due`` is ``turn``, and their states: by state, then by position.

    ``states(part)`` are the states of a part of all positions.  A batch has at most ``BATCH`` of them; they
    may be due no longer when the next one is asked for.
    """
    whole: list[_Piece] = [(None, [slice(0, due.size)])]
    pieces = whole if due.size <= BATCH else _pieces(due, turn, states)
    for wanted, parts in reversed(pieces) if backwards else pieces:
        found = [_members(due, turn, states, part, wanted) for part in parts]
        positions, state = (np.concatenate(kind) for kind in zip(*found, strict=True))
        if state.size:
            order = np.argsort(state, kind="stable")
            yield positions[order], state[order]


def _members(
    due: Integers, turn: int, states: Callable[[slice], Integers], part: slice, wanted: range | None
) -> tuple[Integers, Integers]:
    """Return positions in a part that are due and in a state that is wanted, or in any, and their states."""
    state, chosen = states(part), due[part] == turn
    if wanted is not None:
        chosen &= (state >= wanted.start) & (state < wanted.stop)
    found = np.flatnonzero(chosen)
    return found + part.start, state[found]


def _pieces(due: Integers, turn: int, states: Callable[[slice], Integers]) -> list[_Piece]:
    """Divide what is due, in coding order, into pieces with at most ``BATCH`` of it."""
    parts = [*_slices(due.size)]
    count = np.zeros(1 << 16, np.int64)
    for part in parts:
        count += np.bincount(states(part)[due[part] == turn], minlength=1 << 16)
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


def _slices(size: int) -> Iterator[slice]:
    for start in range(0, size, BATCH):
        yield slice(start, min(size, start + BATCH))
