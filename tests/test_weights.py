from __future__ import annotations

import hashlib

import numpy as np
import pytest
import small_weights
from samples import install

from facecodec import base_layer, texture, weights
from facecodec.errors import WeightsError

TENSORS = {"numbers": np.arange(6, dtype=np.int16).reshape(2, 3), "halves": np.ones(2, np.float16)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FSC_WEIGHTS", str(tmp_path))
    return tmp_path


def test_a_model_is_found_by_name_and_by_the_hash_of_its_file(folder):
    install(folder, {"base-v1": TENSORS, "base-v2": {"other": np.zeros(1, np.uint8)}})
    digest = hashlib.sha256((folder / "base-v1.safetensors").read_bytes()).digest()
    model = weights.load("base-v1")
    assert (model.name, model.id) == ("base-v1", digest[:4])
    assert weights.named("base", digest[:4]) == "base-v1"
    assert model["numbers"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert model["halves"].dtype == np.float16
    assert weights.load("base-v1") is model


def test_the_newest_version_is_the_highest_number(folder):
    install(folder, {f"base-{version}": TENSORS for version in ("v2", "v10", "v9", "vx")} | {"base": TENSORS})
    assert weights.newest("base") == "base-v10"
    with pytest.raises(WeightsError, match=f"no weights of kind bas in {folder}"):
        weights.newest("bas")


def test_a_kind_is_not_its_prefix(folder):
    install(folder, {"base-v1": TENSORS})
    identifier = weights.load("base-v1").id
    with pytest.raises(WeightsError, match=f"texture weights {identifier.hex()}, which are not installed"):
        weights.named("texture", identifier)


def test_an_id_of_two_models_is_of_neither(folder):
    install(folder, {"base-v1": TENSORS, "base-v2": TENSORS, "base-v3": {"other": np.ones(3, np.int8)}})
    short, other = (weights.load(name).id[:2] for name in ("base-v1", "base-v3"))
    with pytest.raises(WeightsError, match=f"base-v1 and base-v2 are both base weights {short.hex()}"):
        weights.named("base", short)
    assert weights.named("base", other) == "base-v3"


def test_an_unknown_id_is_named(folder):
    install(folder, {"base-v1": TENSORS})
    with pytest.raises(WeightsError, match=r"needs base weights 00112233445566ff, which are not installed"):
        weights.named("base", bytes.fromhex("00112233445566ff"))


def test_every_damaged_byte_of_a_file_is_noticed(tmp_path, monkeypatch):
    install(tmp_path, {"base-v1": TENSORS})
    data = (tmp_path / "base-v1.safetensors").read_bytes()
    for at in range(0, len(data), 7):
        folder = install(tmp_path / str(at), {"base-v1": TENSORS})
        damaged = bytearray(data)
        damaged[at] ^= 1
        (folder / "base-v1.safetensors").write_bytes(damaged)
        monkeypatch.setenv("FSC_WEIGHTS", str(folder))
        with pytest.raises(WeightsError, match="weights base-v1 are damaged"):
            weights.load("base-v1")


def test_a_file_that_is_not_listed_is_not_trusted(folder):
    install(folder, {"base-v1": TENSORS, "base-v2": TENSORS})
    (folder / "SHA256SUMS").write_text("")
    with pytest.raises(WeightsError, match="damaged"):
        weights.load("base-v1")


def test_a_listed_file_that_is_not_there_is_named(folder):
    install(folder, {"base-v1": TENSORS})
    (folder / "base-v1.safetensors").unlink()
    with pytest.raises(WeightsError, match="weights base-v1 cannot be read: No such file"):
        weights.load("base-v1")


def written(folder, data):
    (folder / "base-v1.safetensors").write_bytes(data)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  base-v1.safetensors\n")


def safetensors(header, numbers):
    return len(header).to_bytes(8, "little") + header + numbers


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}" * 9,
        safetensors(b"[]", b""),
        safetensors(b'{"a": 1}', b""),
        safetensors(b'{"a": {"dtype": "U8", "shape": [1]}}', b"1"),
        safetensors(b'{"a": {"dtype": "", "shape": [1], "data_offsets": [0, 1]}}', b"1"),
        safetensors(b'{"a": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}', b"1"),
        safetensors(b'{"a": {"dtype": "X8", "shape": [1], "data_offsets": [0, 1]}}', b"1"),
        safetensors(b'{"a": {"dtype": "U16", "shape": [1], "data_offsets": [0, 3]}}', b"123"),
        safetensors(b'{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 1]}}', b"12"),
        safetensors(b'{"a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}', b"12"),
    ],
)
def test_a_file_that_is_no_safetensors_file_is_refused(folder, data):
    written(folder, data)
    with pytest.raises(WeightsError, match="weights base-v1 cannot be parsed"):
        weights.load("base-v1")


def test_metadata_say_nothing_and_tensors_lie_anywhere(folder):
    header = b'{"__metadata__": {"a": "b"}, "x": {"dtype": "I16", "shape": [2], "data_offsets": [1, 5]}}'
    written(folder, safetensors(header, b"?\x01\x00\xff\xff"))
    tensors = weights.load("base-v1").tensors
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"x": [1, -1]}


@pytest.mark.parametrize("text", [None, "abc\n", "abc  a  b\n", "\xe9  base-v1.safetensors\n"])
def test_a_list_that_cannot_be_read_is_named(folder, text):
    if text is not None:
        (folder / "SHA256SUMS").write_text(text, "latin-1")
    for use in (lambda: weights.newest("base"), lambda: weights.named("base", bytes(8))):
        with pytest.raises(WeightsError, match=r"no readable list of weights at .*SHA256SUMS"):
            use()


def test_without_a_choice_the_weights_are_those_beside_the_package(monkeypatch):
    monkeypatch.delenv("FSC_WEIGHTS", raising=False)
    assert weights.folder().name in ("weights", "_weights")
    monkeypatch.setenv("FSC_WEIGHTS", "elsewhere")
    assert str(weights.folder()) == "elsewhere"


def test_tensors_are_checked_for_name_shape_and_type(folder):
    model = weights.load(install(folder, {"base-v1": TENSORS}) and "base-v1")
    assert model.integers("numbers", (-1, 3)) is model["numbers"]
    for key, shape in (("numbers", (2,)), ("numbers", (3, -1)), ("numbers", (2, 3, -1)), ("halves", (2,))):
        with pytest.raises(WeightsError, match=rf"base-v1: {key} is (int16|float16)\("):
            model.integers(key, shape)
    with pytest.raises(WeightsError, match="base-v1: no tensor absent"):
        model.integers("absent", (1,))


RNG = np.random.default_rng(0)
BASE, TEXTURE = small_weights.base(RNG), small_weights.texture(RNG)


def replaced(tensors, key, change):
    return {**tensors, key: change(tensors[key])}


def broken(array, value):
    array = array.astype(np.int64)
    array.flat[-1] = value
    return array


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("layers.2.bias", lambda a: broken(a, 1 << 24), "base-v1 layers.2: channel 5: sums may reach"),
        ("start.weight", lambda a: broken(a, 1 << 21), "base-v1 start: channel 31: sums may reach"),
        ("finish.shift", lambda a: broken(a, 25), "base-v1 finish: channel 11: shift 25"),
        ("layers.1.weight", lambda a: a[:, :-1], "layers.1.weight is"),
        ("finish.weight", lambda a: a[:-1], "finish.weight is"),
        ("start.weight", lambda a: a[:-1], "start has 31 channels, no multiple of 16"),
        ("layers.0.weight", lambda a: a.astype(np.float32), "layers.0.weight is float32"),
        ("layers.0.weight", lambda a: a[:, :, :2, :2], "base-v1 layers.0: weights of shape"),
    ],
)
def test_a_generator_that_breaks_a_rule_is_refused(folder, key, change, message):
    install(folder, {"base-v1": replaced(BASE, key, change)})
    model = base_layer.load("base-v1")
    with pytest.raises(WeightsError, match=message):
        _ = model.generator


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("around.to_8.bias", lambda a: broken(a, 1 << 24), "texture-v1 around.to_8: channel 2: sums may"),
        ("trits.enter.8.weight", lambda a: a[:, :-1], "trits.enter.8.weight is"),
        ("trits.merge.2.weight", lambda a: a[:, :-1], "trits.merge.2.weight is"),
        ("trits.tell.16.weight", lambda a: a[:-1], "trits.tell.16.weight is"),
        ("trits.at_8.second.weight", lambda a: a[:-1], "trits.at_8.second.weight is"),
        ("filter.finish.weight", lambda a: a[:-1], "filter.finish.weight is"),
        ("filter.at.4.0.second.weight", lambda a: a[:-1], "filter.at.4.0.second.weight is"),
        ("trit.frequencies", lambda a: a + 1, "texture-v1: tables of trits: frequencies"),
        ("trit.frequencies", lambda a: a[:-1], "trit.frequencies is"),
        ("thresholds", lambda a: a[::-1], "the last turn of a plane leaves trits out"),
        ("thresholds", lambda a: a[:2], "thresholds is"),
        ("order", lambda a: a + 1, r"order is not in 0..866"),
        ("settle.rest", lambda a: a.astype(np.int16) + 1, r"settle.rest is not in -32..32"),
        ("regions", lambda a: a[:-1], "regions is"),
        ("regions", lambda a: a + 1, r"regions is not in 0..24"),
        ("asked", lambda a: a.astype(np.float32), "asked is float32"),
    ],
)
def test_a_texture_model_that_breaks_a_rule_is_refused(folder, key, change, message):
    install(folder, {"texture-v1": replaced(TEXTURE, key, change)})
    with pytest.raises(WeightsError, match=message):
        texture.load("texture-v1")


@pytest.mark.parametrize("key", ["identity.frequencies", "appearance.frequencies", "verdicts"])
def test_a_base_model_without_a_table_is_refused(folder, key):
    install(folder, {"base-v1": {k: v for k, v in BASE.items() if k != key}})
    with pytest.raises(WeightsError, match=f"base-v1: no tensor {key}"):
        base_layer.load("base-v1")


def test_models_of_different_folders_are_kept_apart(tmp_path, monkeypatch):
    other = small_weights.base(np.random.default_rng(1))
    for name, tensors in (("a", BASE), ("b", other)):
        monkeypatch.setenv("FSC_WEIGHTS", str(install(tmp_path / name, {"base-v1": tensors})))
        assert base_layer.load("base-v1").id == weights.load("base-v1").id
    assert base_layer.load("base-v1").generator.start.bias.tolist() != []
    monkeypatch.setenv("FSC_WEIGHTS", str(tmp_path / "a"))
    first = base_layer.load("base-v1")
    monkeypatch.setenv("FSC_WEIGHTS", str(tmp_path / "b"))
    assert base_layer.load("base-v1").id != first.id
