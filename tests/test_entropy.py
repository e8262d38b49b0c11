from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import small_weights
from hypothesis import given
from hypothesis import strategies as st

from facecodec import entropy
from facecodec.entropy import (
    DEPTH,
    INNER,
    LEAF,
    MAX_SCALES,
    Trees,
    code_groups,
    read_codes,
    tables,
)
from facecodec.errors import WeightsError
from facecodec.rans import EmbeddedDecoder, Table, encode, encode_embedded_reverse

PLANES = np.arange(1, DEPTH + 1, dtype=np.uint8)


LATEST = 200
"""The highest rank, so that there is room for delays."""
AT_ONCE = np.zeros(1, np.uint8)


def tensors(seed=0, planes=PLANES):
    """Return frequencies, value, rank and planes of random trees."""
    made = small_weights.trees(np.random.default_rng(seed), planes)
    made["tree.rank"][0, 0] = LATEST
    return {key.removeprefix("tree."): value for key, value in made.items()}


TREES = Trees.from_integers(**tensors())
delays = st.lists(st.integers(0, LEAF - 1 - LATEST), min_size=1, max_size=5).map(
    lambda late: np.array(late, np.uint8)
)
latents = st.lists(st.tuples(st.integers(0, len(PLANES) - 1), st.integers(-1200, 1200)), max_size=60)


def arrays(pairs):
    scale, latent = np.array(pairs, np.int16).reshape(-1, 2).T
    return scale.astype(np.uint8), latent


def ordered(scale, latent, delay, last_turn):
    """Walk as the specification says it, latent by latent; return the steps and the nodes."""
    node, steps = [0] * len(scale), []
    for turn in range(last_turn + 1):
        due = [
            (int(s), node[i], i)
            for i, s in enumerate(scale)
            if node[i] < INNER and int(TREES.rank[s, node[i]]) + int(delay[i % delay.size]) == turn
        ]
        for s, n, i in sorted(due):
            planes, depth = int(PLANES[s]), 0
            while n >= (3 ** (depth + 1) - 1) // 2:
                depth += 1
            top = (3**planes - 1) // 2
            leaf = min(max(int(latent[i]), -top), top) + top
            trit = leaf // 3 ** (planes - depth - 1) % 3
            steps.append((i, s * INNER + n, trit))
            node[i] = 3 * n + 1 + trit
    return steps, node


def reached(latent, scale, delay, last_turn):
    """Return the nodes at which latents stand when turns up to the last one are done."""
    node = TREES.leaves(latent, scale)
    TREES.climb(scale, delay, node, last_turn)
    return node


def told(steps):
    """Return what gives a walk the trits of these steps, one after the other, and the states it asked for."""
    states, left = [], iter([trit for _, _, trit in steps])

    def trits(asked):
        given = [*islice(left, asked.size)]
        states.extend(asked[: len(given)].tolist())
        return np.array(given, np.int32)

    return trits, states


@given(latents, delays)
def test_a_walk_goes_by_turn_then_scale_then_node_then_position(pairs, delay):
    scale, latent = arrays(pairs)
    steps, node = ordered(scale, latent, delay, LEAF - 1)
    trits, states = told(steps)
    assert TREES.walk(scale, delay, trits).tolist() == node
    assert states == [state for _, state, _ in steps]


@given(latents, delays, st.integers(0, 200))
def test_a_walk_ends_where_it_is_given_fewer_trits_than_it_asks_for(pairs, delay, certain):
    scale, latent = arrays(pairs)
    steps = ordered(scale, latent, delay, LEAF - 1)[0][:certain]
    node = [0] * len(scale)
    for i, state, trit in steps:
        node[i] = 3 * (state % INNER) + 1 + trit
    assert TREES.walk(scale, delay, told(steps)[0]).tolist() == node


@given(latents, delays, st.sampled_from([-1, 0, 7, 20, 60, LEAF - 1]))
def test_latents_reach_the_node_where_a_walk_up_to_a_turn_leaves_them(pairs, delay, last_turn):
    scale, latent = arrays(pairs)
    node = ordered(scale, latent, delay, last_turn)[1]
    assert reached(latent, scale, delay, last_turn).tolist() == node


@given(latents, delays, st.sampled_from([-1, 0, 7, 20, 60, LEAF - 1]))
def test_a_walk_is_retraced_step_by_step(pairs, delay, last_turn):
    scale, latent = arrays(pairs)
    steps, node = ordered(scale, latent, delay, last_turn)
    batches = [*TREES.retrace(scale, delay, np.array(node, np.uint16))][::-1]
    assert [trit for trits, _ in batches for trit in trits.tolist()] == [trit for _, _, trit in steps]
    assert [state for _, states in batches for state in states.tolist()] == [state for _, state, _ in steps]


@pytest.mark.parametrize("planes", range(1, DEPTH + 1))
def test_whole_walks_end_at_the_leaf_of_each_latent(planes):
    top = (3**planes - 1) // 2
    latent = np.arange(-top - 3, top + 4)
    node = TREES.leaves(latent, np.full(latent.size, planes - 1, np.uint8))
    assert (node - top).tolist() == [0] * 3 + list(range(3**planes)) + [3**planes - 1] * 3


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_many_latents_are_refined_in_batches_in_the_same_order(batch, monkeypatch):
    rng = np.random.default_rng(1)
    scale = rng.integers(0, len(PLANES), 300).astype(np.uint8)
    latent, delay = rng.integers(-1100, 1100, 300), np.array([0, 12, 3], np.uint8)

    def both_ways():
        node = reached(latent, scale, delay, 40)
        batches = [*TREES.retrace(scale, delay, node.copy())][::-1]
        trits, states = (np.concatenate(parts).tolist() for parts in zip(*batches, strict=True))
        given, asked = told([(None, None, trit) for trit in trits])
        assert TREES.walk(scale, delay, given).tolist() == node.tolist()
        assert asked == states
        return max(len(states) for _, states in batches), node.tolist(), trits, states

    largest, *at_once = both_ways()
    assert largest > batch
    monkeypatch.setattr(entropy, "BATCH", batch)
    smaller, *in_batches = both_ways()
    assert smaller <= batch
    assert in_batches == at_once


@given(latents, delays, st.sampled_from([10, LEAF - 1]))
def test_what_is_retraced_into_a_stream_a_walk_reads(pairs, delay, last_turn):
    scale, latent = arrays(pairs)
    node = reached(latent, scale, delay, last_turn)
    batches = TREES.retrace(scale, delay, node.copy())
    groups = [(trits, TREES.coders.pick(states)) for trits, states in batches]
    decoder = EmbeddedDecoder(encode_embedded_reverse(groups))
    read = TREES.walk(scale, delay, lambda states: decoder.take(states.size, TREES.coders.pick(states)))
    assert read.tolist() == node.tolist()
    decoder.finish()


def test_each_state_has_the_table_of_its_node():
    frequencies = tensors()["frequencies"]
    for scale, node in np.argwhere(TREES.rank != LEAF)[::17].tolist():
        symbols = np.array([0, 1, 2, 1])
        states = np.full(4, scale * INNER + node, np.uint16)
        alone = Table(frequencies[scale, node])
        assert encode([(symbols, TREES.coders.pick(states))]) == encode([(symbols, alone)])


def test_states_of_the_last_of_as_many_trees_as_there_can_be():
    made = {key: np.repeat(value[-1:], MAX_SCALES, 0) for key, value in tensors().items()}
    many, scale = Trees.from_integers(**made), np.full(3, MAX_SCALES - 1, np.uint8)
    node = many.leaves(np.array([-1093, 0, 1093]), scale)
    assert node.tolist() == [1093, 2186, 3279]
    batches = [*many.retrace(scale, AT_ONCE, node)][::-1]
    assert max(int(states.max()) for _, states in batches) == MAX_SCALES * INNER - 1 < 1 << 16
    trits, _ = told([(None, None, trit) for trits, _ in batches for trit in trits.tolist()])
    assert many.walk(scale, AT_ONCE, trits).tolist() == [1093, 2186, 3279]


def test_the_last_rank_is_the_highest_of_an_inner_node():
    rank = tensors()["rank"]
    assert TREES.last_rank == rank[rank != LEAF].max() == TREES.ranks[-1]
    assert TREES.ranks == sorted({*rank[rank != LEAF].tolist()})


def changed(key, index, value, dtype=None):
    made = tensors()
    made[key] = made[key].astype(dtype or made[key].dtype)
    made[key][index] = value
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        pytest.param(changed("planes", 0, 0), "impossible depth", id="no planes"),
        pytest.param(changed("planes", 0, DEPTH + 1), "impossible depth", id="too many planes"),
        pytest.param({key: value[:0] for key, value in tensors().items()}, "too few", id="no trees"),
        pytest.param(
            {key: np.repeat(value[:1], 129, 0) for key, value in tensors().items()},
            "too many",
            id="too many trees",
        ),
        pytest.param(changed("value", (0, 0), 32768, int), "out of range", id="wild value"),
        pytest.param(changed("rank", (0, 0), -1, int), "out of range", id="negative rank"),
        pytest.param(changed("rank", (0, 0), 256, int), "out of range", id="rank of two bytes"),
        pytest.param(
            changed("rank", (2, 0), LEAF), "scale 2 has ranks out of order", id="inner node without rank"
        ),
        pytest.param(
            changed("rank", (4, 5), int(TREES.rank[4, 1])),
            "scale 4 has ranks out of order",
            id="child with parent",
        ),
        pytest.param(changed("rank", (0, 1), 200), "scale 0 has ranks on leaves", id="leaf with rank"),
        pytest.param(
            changed("frequencies", (1, 2, 0), 0), "refinement trees: frequencies", id="broken table"
        ),
    ],
)
def test_trees_that_cannot_be_are_refused(made, message):
    with pytest.raises(WeightsError, match=message):
        Trees.from_integers(**made)


def test_the_table_of_a_node_that_is_never_refined_may_be_anything():
    made = tensors()
    made["frequencies"][0, 5:] = 3
    Trees.from_integers(**made)


CODERS = tables(np.array([[1 + 4065 * (i == j) for j in range(31)] for i in range(3)]), "rows")


@given(st.integers(0, 3), st.integers(0, 2**32))
def test_codes_are_read_as_they_were_written(faces, seed):
    codes = np.random.default_rng(seed).integers(-15, 16, (faces, 24))
    groups = code_groups(codes, CODERS)
    assert [group[0].size for group in groups] == [8 * faces] * 3
    stream = iter(np.concatenate([symbols for symbols, _ in groups]).tolist())

    def take(count, table):
        assert table in CODERS
        return np.array([next(stream) for _ in range(count)], np.int32)

    assert read_codes(take, faces, CODERS).tolist() == codes.tolist()


def test_eight_dimensions_of_all_faces_share_a_table():
    codes = np.arange(32).reshape(2, 16) - 15
    assert [group[0].tolist() for group in code_groups(codes, CODERS[:2])] == [
        [*range(8), *range(16, 24)],
        [*range(8, 16), *range(24, 32)],
    ]


def test_a_bad_table_is_named():
    with pytest.raises(WeightsError, match=r"identity: frequencies .* 4095"):
        tables(np.array([[2048, 2048], [2048, 2047]]), "identity")
