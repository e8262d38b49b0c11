from __future__ import annotations

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
    depth_of,
    read_codes,
    tables,
    trit_of,
)
from facecodec.errors import WeightsError
from facecodec.rans import EmbeddedDecoder, Table, encode, encode_embedded

PLANES = np.array([1, 2, 3, 4, 5, 6], np.uint8)


def tensors(seed=0, planes=PLANES):
    """Return frequencies, value, rank and planes of random trees."""
    made = small_weights.trees(np.random.default_rng(seed), planes)
    return {key.removeprefix("tree."): value for key, value in made.items()}


TREES = Trees.from_integers(**tensors())
latents = st.lists(st.tuples(st.integers(0, len(PLANES) - 1), st.integers(-400, 400)), max_size=60)


def arrays(pairs):
    scale, latent = np.array(pairs, np.int16).reshape(-1, 2).T
    return scale.astype(np.uint8), latent


def ordered(scale, latent, last_rank):
    """Walk as the specification says it, latent by latent; return the steps and the nodes."""
    node, steps = [0] * len(scale), []
    for rank in range(last_rank + 1):
        due = [
            (int(s), node[i], i)
            for i, s in enumerate(scale)
            if node[i] < INNER and TREES.rank[s, node[i]] == rank
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


@given(latents, st.sampled_from([0, 7, 20, LEAF - 1]))
def test_a_walk_goes_by_rank_then_scale_then_node_then_position(pairs, last_rank):
    scale, latent = arrays(pairs)
    steps = []

    def trits(positions, states):
        given = TREES.trits(latent[positions], states)
        steps.extend(zip(positions.tolist(), states.tolist(), given.tolist(), strict=True))
        return given

    node = TREES.walk(scale, trits, last_rank)
    assert (steps, node.tolist()) == ordered(scale, latent, last_rank)


@given(latents)
def test_a_whole_walk_ends_at_the_leaf_of_each_latent(pairs):
    scale, latent = arrays(pairs)
    node = TREES.walk(scale, lambda positions, states: TREES.trits(latent[positions], states))
    top = (3 ** PLANES[scale].astype(int) - 1) // 2
    assert node.tolist() == (top + np.clip(latent, -top, top) + top).tolist()


@given(latents, st.integers(0, 200))
def test_a_walk_ends_where_it_is_given_fewer_trits_than_it_asks_for(pairs, certain):
    scale, latent = arrays(pairs)
    steps, _ = ordered(scale, latent, LEAF - 1)
    left = certain

    def trits(positions, states):
        nonlocal left
        given = TREES.trits(latent[positions], states)[:left]
        left -= given.size
        return given

    node = [0] * len(scale)
    for i, state, trit in steps[:certain]:
        node[i] = 3 * (state % INNER) + 1 + trit
    assert TREES.walk(scale, trits).tolist() == node


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_many_latents_are_refined_in_batches_in_the_same_order(batch, monkeypatch):
    rng = np.random.default_rng(1)
    scale = rng.integers(0, len(PLANES), 300).astype(np.uint8)
    latent = rng.integers(-380, 380, 300)

    def walked():
        steps = []

        def trits(positions, states):
            assert positions.size
            steps.extend(zip(positions.tolist(), states.tolist(), strict=True))
            sizes.append(positions.size)
            return TREES.trits(latent[positions], states)

        return steps, TREES.walk(scale, trits).tolist()

    sizes = []
    at_once = walked()
    assert max(sizes) > batch
    monkeypatch.setattr(entropy, "BATCH", batch)
    sizes = []
    assert walked() == at_once
    assert max(sizes) <= batch


@given(latents)
def test_what_a_walk_codes_a_walk_decodes(pairs):
    scale, latent = arrays(pairs)
    groups = []

    def write(positions, states):
        given = TREES.trits(latent[positions], states)
        groups.append((given, TREES.coders.pick(states)))
        return given

    node = TREES.walk(scale, write)
    decoder = EmbeddedDecoder(encode_embedded(groups))
    read = TREES.walk(scale, lambda _, states: decoder.take(states.size, TREES.coders.pick(states)))
    assert read.tolist() == node.tolist()


def test_each_state_has_the_table_of_its_node():
    frequencies = tensors()["frequencies"]
    for scale, node in np.argwhere(TREES.rank != LEAF)[::17].tolist():
        symbols = np.array([0, 1, 2, 1])
        states = np.full(4, scale * INNER + node, np.uint16)
        alone = Table(frequencies[scale, node])
        assert encode([(symbols, TREES.coders.pick(states))]) == encode([(symbols, alone)])


def test_states_of_the_last_of_as_many_trees_as_there_can_be():
    made = {key: np.repeat(value[-1:], MAX_SCALES, 0) for key, value in tensors().items()}
    many, latent, seen = Trees.from_integers(**made), np.array([-364, 0, 364]), []

    def trits(positions, states):
        seen.extend(states.tolist())
        return many.trits(latent[positions], states)

    assert many.walk(np.full(3, MAX_SCALES - 1, np.uint8), trits).tolist() == [364, 728, 1092]
    assert sorted(seen)[-1] == MAX_SCALES * INNER - 1 < 1 << 16


def test_the_depth_of_a_node_counts_the_trits_that_lead_to_it():
    nodes = [0]
    for depth in range(DEPTH + 1):
        assert depth_of(np.array(nodes)).tolist() == [depth] * len(nodes)
        nodes = [3 * node + 1 + trit for node in nodes for trit in range(3)]


@pytest.mark.parametrize("planes", range(1, DEPTH + 1))
def test_the_trits_of_a_latent_are_its_ternary_digits(planes):
    top = (3**planes - 1) // 2
    latent = np.arange(-top - 3, top + 4)
    digits = [
        trit_of(latent, np.full(latent.size, planes), np.full(latent.size, depth)) for depth in range(planes)
    ]
    numbers = sum(digit * 3 ** (planes - 1 - depth) for depth, digit in enumerate(digits))
    assert numbers.tolist() == [0] * 3 + list(range(3**planes)) + [3**planes - 1] * 3


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
        pytest.param(changed("planes", 0, 7), "impossible depth", id="too many planes"),
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
