from __future__ import annotations

from contextlib import suppress
from functools import cache
from zlib import crc32

import numpy as np
import pytest
import small_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import install, noise, portrait, waves

import facecodec
from facecodec import base_layer, container, enhancement, weights
from facecodec.container import SectionType
from facecodec.errors import (
    CorruptError,
    FscError,
    StreamError,
    TruncatedError,
    UnsupportedError,
    WeightsError,
)
from facecodec.geometry import Geometry
from facecodec.networks import exact_torch

FACES, APPEARANCE, ENHANCEMENT, RESIDUAL = SectionType


@pytest.fixture(scope="module")
def file():
    """A portrait of one face and 720 bytes, with an enhancement."""
    return facecodec.encode(portrait(60), aligned=True, max_bytes=720)


@pytest.fixture(scope="module")
def lossless():
    return facecodec.encode(portrait(52), aligned=True, lossless=True)


def ends(data):
    """Return where each section of a file ends."""
    return {section.type: section.offset + section.length for section in container.parse(data).sections}


def rewritten(data, **payloads):
    """Return the file with other payloads, by the name of their section; None leaves one out."""
    parsed = container.parse(data)
    kept = {section.type: section.payload for section in parsed.sections}
    kept.update({SectionType[name]: payload for name, payload in payloads.items()})
    kept = {section_type: payload for section_type, payload in kept.items() if payload is not None}
    return container.write(parsed.width, parsed.height, parsed.weights_id, kept)


@cache
def decoded(data):
    return facecodec.decode(data)


def same(one, two):
    return np.array_equal(one.embeddings, two.embeddings) and np.array_equal(one.landmarks, two.landmarks)


# Whole files


def test_a_file_decodes_to_the_size_and_the_faces_it_was_made_of(file):
    picture, found = facecodec.decode(file), facecodec.features(file)
    assert (picture.pixels.shape, picture.pixels.dtype, picture.notes) == ((60, 60, 3), np.uint8, ())
    assert picture.pixels.flags.c_contiguous
    assert same(picture.faces, found)
    assert found.embeddings.shape == (1, 256)
    assert np.linalg.norm(found.embeddings.astype(float)) == pytest.approx(1, abs=1e-6)
    assert (found.boxes.shape, found.landmarks.shape) == ((1, 4), (1, 5, 2))
    assert found.model == weights.load(weights.newest("base")).id.hex()


@settings(max_examples=10)
@given(height=st.integers(16, 100), width=st.integers(16, 100), smooth=st.booleans(), face=st.booleans())
def test_lossless_files_return_the_very_pixels(height, width, smooth, face):
    pixels = (waves if smooth else noise)(height, width, height)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facecodec.faces.find", lambda pixels: [])
        data = facecodec.encode(pixels, lossless=True, aligned=face, no_face="encode")
    picture = facecodec.decode(data)
    assert np.array_equal(picture.pixels, pixels)
    assert picture.notes == facecodec.verify(data) == ()
    assert len(picture.faces.embeddings) == face


def test_torch_decodes_the_same_picture(lossless, file):
    for data in (lossless, file, file[:500]):
        for layers in ("base", "full"):
            one = facecodec.decode(data, layers=layers)
            two = facecodec.decode(data, layers=layers, convolve=exact_torch.conv2d)
            assert np.array_equal(one.pixels, two.pixels)
            assert one.notes == two.notes


def test_the_base_layer_is_the_placed_preview_and_the_start_of_the_full_picture(file):
    base = facecodec.decode(file, layers="base")
    assert np.array_equal(base.pixels, facecodec.decode(facecodec.strip(file, "base")).pixels)
    assert base.notes == ()
    assert not np.array_equal(base.pixels, facecodec.decode(file).pixels)


# Cuts


def test_a_file_cut_at_any_byte_is_worth_its_whole_words(file):
    words = container.parse(file).sections[2]
    first = words.offset + container.SHORT_CHECK_BYTES + enhancement.HEAD_BYTES
    seen = set()
    for size in range(first, len(file), 3):
        picture = facecodec.decode(file[:size])
        assert len(picture.notes) == 1
        assert f"the enhancement section is cut after {size - words.offset - 2}" in picture.notes[0]
        whole = decoded(file[: size - (size + 2 - len(file)) % 4]).pixels
        assert np.array_equal(picture.pixels, whole)
        seen.add(whole.tobytes())
    assert len(seen) > 50


def test_truncating_to_any_size_from_the_base_layer_on_is_a_clean_cut(file):
    base, start = len(facecodec.strip(file, "base")), container.parse(file).sections[2].offset
    seen = set()
    for size in range(base, len(file) + 1):
        short = facecodec.truncate(file, size)
        assert len(short) <= size
        sections = {section.type: section for section in container.parse(short).sections}
        assert all(section.state == "verified" for section in sections.values())
        if ENHANCEMENT in sections:
            assert size - len(short) < 8
            kept = sections[ENHANCEMENT].payload
            whole = container.parse(file).sections[2].payload
            assert (kept[:2], kept[3:]) == (whole[:2], whole[3 : len(kept)])
            assert kept[2] == (0 if short == file else enhancement.Flags.OPEN)
        else:
            kept = b""
            assert size < base + 16
        if short not in seen:
            seen.add(short)
            cut = decoded(file[: start + 2 + len(kept)])
            assert np.array_equal(facecodec.decode(short).pixels, cut.pixels)
    assert short == file
    assert len(seen) > 100


def test_below_the_base_layer_the_features_are_left_as_long_as_the_faces_are_whole(file):
    found, faces, base = facecodec.features(file), ends(file)[FACES], ends(file)[APPEARANCE]
    for size in range(base):
        if size < faces:
            for read in (facecodec.features, facecodec.decode, facecodec.info, facecodec.verify):
                with pytest.raises(TruncatedError):
                    read(file[:size])
        else:
            assert same(facecodec.features(file[:size]), found)
    picture = facecodec.decode(file[: base - 1])
    assert "the appearance section is cut" in picture.notes[0]
    stripped = facecodec.strip(file, "features")
    assert np.array_equal(picture.pixels, facecodec.decode(stripped).pixels)
    for size in range(len(facecodec.strip(file, "base"))):
        if size < len(stripped):
            with pytest.raises(
                FscError, match=f"the faces alone need {len(stripped)} bytes, more than {size}"
            ):
                facecodec.truncate(file, size)
        else:
            short = facecodec.truncate(file, size)
            assert size - 8 <= len(short) <= size
            assert facecodec.verify(short) == ()
            assert facecodec.strip(short, "features") == stripped


def test_truncating_a_cut_file_makes_a_clean_one(file):
    start = container.parse(file).sections[2].offset
    for size in (*range(start - 3, start + 40), len(file) - 1):
        clean = facecodec.truncate(file[:size], 10_000)
        assert facecodec.verify(clean) == ()
        assert np.array_equal(facecodec.decode(clean).pixels, facecodec.decode(file[:size]).pixels)


def test_truncating_a_lossless_file_drops_the_residual_first(lossless):
    without = rewritten(lossless, RESIDUAL=None)
    assert facecodec.truncate(lossless, len(lossless)) == lossless
    for size in (len(lossless) - 1, len(without)):
        assert facecodec.truncate(lossless, size) == without
    short = facecodec.truncate(lossless, len(without) - 1)
    assert len(without) - 8 <= len(short) < len(without)
    assert facecodec.truncate(short, 10**6) == short


def test_stripping_keeps_what_it_says(lossless):
    for keep, types in (("features", [FACES]), ("base", [FACES, APPEARANCE])):
        short = facecodec.strip(lossless, keep)
        assert [section.type for section in container.parse(short).sections] == types
        assert same(facecodec.features(short), facecodec.features(lossless))
        assert facecodec.strip(short, keep) == short
    with pytest.raises(ValueError, match="keep features or base, not 'all'"):
        facecodec.strip(lossless, "all")


# Damage


def test_every_flipped_bit_of_header_table_and_faces_is_noticed(file):
    for at in range(8 * ends(file)[FACES]):
        damaged = bytearray(file)
        damaged[at // 8] ^= 1 << at % 8
        for read in (facecodec.features, facecodec.info, facecodec.decode):
            with pytest.raises(StreamError):
                read(bytes(damaged))


def test_a_damaged_appearance_costs_the_picture_and_no_features(lossless):
    average = facecodec.decode(facecodec.strip(lossless, "features")).pixels
    for at in range(ends(lossless)[FACES], ends(lossless)[APPEARANCE], 5):
        damaged = lossless[:at] + bytes([lossless[at] ^ 16]) + lossless[at + 1 :]
        picture = facecodec.decode(damaged)
        assert same(picture.faces, facecodec.features(lossless))
        assert picture.notes == facecodec.verify(damaged) == ("the appearance section is damaged",)
        assert np.array_equal(picture.pixels, average)
        assert facecodec.truncate(damaged, 10**6) == facecodec.strip(lossless, "features")


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_enhancement_costs_neither_features_nor_the_preview(lossless, data):
    at = data.draw(st.integers(ends(lossless)[APPEARANCE], ends(lossless)[ENHANCEMENT] - 1))
    damaged = lossless[:at] + bytes([lossless[at] ^ data.draw(st.integers(1, 255))]) + lossless[at + 1 :]
    picture = facecodec.decode(damaged)
    assert same(picture.faces, facecodec.features(lossless))
    assert np.array_equal(picture.pixels, facecodec.decode(lossless, layers="base").pixels)
    assert picture.notes == facecodec.verify(damaged) == ("the enhancement section is damaged",)
    assert facecodec.truncate(damaged, 10**6) == facecodec.strip(lossless, "base")


def test_a_damaged_residual_costs_only_the_residual(lossless):
    damaged = lossless[:-9] + bytes([lossless[-9] ^ 1]) + lossless[-8:]
    picture = facecodec.decode(damaged)
    assert picture.notes == ("the residual section is damaged",)
    assert np.array_equal(picture.pixels, facecodec.decode(rewritten(lossless, RESIDUAL=None)).pixels)


# Hostile files


def everything(data):
    """Do all that can be done with a file; only errors of ours may come out."""
    for use in (
        facecodec.decode,
        facecodec.features,
        facecodec.info,
        facecodec.verify,
        lambda data: facecodec.truncate(data, 60),
        lambda data: facecodec.strip(data, "base"),
        lambda data: facecodec.compare(data, data),
    ):
        with suppress(FscError):
            use(data)


@settings(max_examples=300)
@given(st.binary(max_size=120), st.booleans())
def test_hostile_bytes_after_the_magic_raise_errors_of_ours_only(data, version):
    everything(container.MAGIC + (bytes([container.VERSION]) if version else b"") + data)


@settings(max_examples=150)
@given(
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    head=st.binary(max_size=2) | st.sampled_from([b"\0\0", b"\1\1", b"\0\1", b"\0\2", b"\0\xff"]),
    faces=st.binary(max_size=80),
    appearance=st.none() | st.binary(max_size=80),
    known=st.booleans(),
    enhanced=st.none() | st.binary(max_size=400),
    residual=st.none() | st.binary(max_size=60).map(lambda tail: bytes(114) + tail) | st.binary(max_size=130),
    optional=st.none() | st.binary(max_size=9),
    cut=st.integers(0, 60),
)
def test_hostile_payloads_raise_errors_of_ours_only(
    sides, head, faces, appearance, known, enhanced, residual, optional, cut
):
    base, texture = (weights.load(weights.newest(kind)).id for kind in ("base", "texture"))
    if enhanced is not None and known:
        enhanced = texture[: enhancement.ID_BYTES] + bytes([enhanced[-1:] > b"\x80"]) + enhanced
    payloads = {
        FACES: head + faces,
        APPEARANCE: appearance,
        ENHANCEMENT: enhanced,
        RESIDUAL: residual,
        99: optional,
    }
    payloads = {section_type: payload for section_type, payload in payloads.items() if payload is not None}
    data = container.write(*sides, base, payloads)
    everything(data)
    everything(data[: len(data) - cut])


@settings(max_examples=60)
@given(words=st.binary(min_size=4, max_size=600), sides=st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_hostile_enhancements_and_residuals_raise_errors_of_ours_only(file, words, sides):
    texture = weights.load(weights.newest("texture")).id[: enhancement.ID_BYTES]
    for payload in (words, b"\1" + words[1:]):
        data = rewritten(
            file, ENHANCEMENT=texture + bytes([words[-1] % 4]) + payload, RESIDUAL=bytes(114) + words
        )
        width, height = (side.to_bytes(2, "little") for side in sides)
        moved = bytearray(data[:4] + width + height + data[8:])
        at = container.parse(data).sections[0]
        check = at.offset + at.length - 4
        moved[check : check + 4] = crc32(bytes(moved[:check])).to_bytes(4, "little")
        everything(bytes(moved))


def test_a_picture_larger_than_the_limit_is_not_begun(file):
    payload = container.parse(file).sections[0].payload
    identifier = container.parse(file).weights_id
    for width, height in ((8193, 8192), (65535, 65535)):
        data = container.write(width, height, identifier, {FACES: payload})
        for read in (facecodec.decode, facecodec.features, lambda data: facecodec.strip(data, "base")):
            with pytest.raises(UnsupportedError, match=f"{width}x{height} is larger than 67108864 pixels"):
                read(data)
    assert facecodec.info(data).width == 65535


def test_an_enhancement_without_a_model_is_corrupt_or_unknown(file):
    with pytest.raises(CorruptError, match="no model id"):
        facecodec.decode(rewritten(file, ENHANCEMENT=b"no"))
    with pytest.raises(WeightsError, match="texture weights 0102, which are not installed"):
        facecodec.decode(rewritten(file, ENHANCEMENT=bytes(range(1, 20))))


def test_an_unknown_base_model_is_named_and_leaves_the_account(file):
    parsed = container.parse(file)
    data = container.write(60, 60, bytes(4), {FACES: parsed.sections[0].payload})
    for read in (facecodec.decode, facecodec.features):
        with pytest.raises(WeightsError, match="base weights 00000000, which are not installed"):
            read(data)
    assert facecodec.info(data).model == "00" * 4


# Accounts


def accounted(data):
    about = facecodec.info(data)
    at = 0
    for part in about.parts:
        assert part.offset == at
        assert part.size > 0
        at += part.size
    assert at == len(data)
    return about


def test_every_byte_is_accounted_for(lossless):
    about = accounted(lossless)
    assert (about.version, about.width, about.height, about.faces, about.notes) == (2, 52, 52, 1, ())
    assert [part.name for part in about.parts] == [
        "header",
        "section table",
        "face count",
        "identity codes",
        "faces check",
        "appearance codes",
        "appearance check",
        "enhancement check",
        "enhancement model",
        "enhancement flags",
        "enhancement",
        "residual check",
        "exact residual",
    ]
    for size in range(ends(lossless)[FACES], len(lossless), 11):
        assert accounted(lossless[:size]).notes


def test_geometry_and_optional_sections_are_accounted_for():
    model = base_layer.load(weights.newest("base"))
    place = Geometry(30_000, 34_000, 6, 6500, 900)
    faces = base_layer.Faces((place, place), np.zeros((2, 256), np.int32))
    payload = base_layer.encode_faces(faces, model)
    about = accounted(container.write(99, 98, model.id, {FACES: payload, 99: b"abc"}))
    sizes = {part.name: part.size for part in about.parts}
    assert (about.faces, sizes["geometry"], sizes["optional section 99"]) == (2, 16, 5)
    short = container.write(99, 98, model.id, {FACES: payload[:9]})
    assert accounted(short).faces == 2
    with pytest.raises(CorruptError, match="no face count"):
        facecodec.info(container.write(99, 98, model.id, {FACES: b"1"}))


def test_optional_sections_change_nothing_but_the_account(file):
    parsed = container.parse(file)
    payloads = {section.type: section.payload for section in parsed.sections}
    more = container.write(parsed.width, parsed.height, parsed.weights_id, {**payloads, 64: b"note"})
    assert np.array_equal(facecodec.decode(more).pixels, facecodec.decode(file).pixels)
    assert facecodec.truncate(more, len(more) - 1) == file


def test_what_is_not_a_layer_is_a_wrong_argument(file):
    with pytest.raises(ValueError, match="layers are base or full, not 'all'"):
        facecodec.decode(file, layers="all")


# Comparisons


def faces_file(model, *codes):
    place = Geometry(30_000, 34_000, 6, 6500, 900)
    faces = base_layer.Faces((place,) * len(codes), np.array(codes, np.int32).reshape(-1, 256))
    return container.write(200, 200, model.id, {FACES: base_layer.encode_faces(faces, model)})


@pytest.fixture
def models(tmp_path, monkeypatch):
    made = {f"base-v{n}": small_weights.base(np.random.default_rng(n)) for n in (1, 2)}
    made["base-v2"]["verdicts"] = np.array([[500_000, 10_000], [600_000, 2_000]], np.int32)
    monkeypatch.setenv("FSC_WEIGHTS", str(install(tmp_path, made)))
    return [base_layer.load(name) for name in made]


def test_more_faces_than_the_picture_allows_are_refused_before_any_is_placed(models):
    place = Geometry(30_000, 34_000, 6, 6500, 900)

    def crowd(count, width, height):
        faces = base_layer.Faces((place,) * count, np.zeros((count, 256), np.int32))
        payload = base_layer.encode_faces(faces, models[0])
        return container.write(width, height, models[0].id, {FACES: payload})

    assert len(facecodec.features(crowd(32, 8192, 8192)).boxes) == 32
    assert len(facecodec.features(crowd(255, 2901, 2902)).boxes) == 255
    for count, width, height in ((33, 8192, 8192), (255, 2902, 2902)):
        for read in (facecodec.decode, facecodec.features, facecodec.verify):
            with pytest.raises(UnsupportedError, match=f"{count} faces are too many .* {width}x{height}"):
                read(crowd(count, width, height))


def test_the_two_most_similar_faces_are_compared(models):
    x, y, z = (np.roll([3, 4] + [0] * 254, n) for n in (0, 1, 9))
    pair = facecodec.compare(faces_file(models[0], x, z), faces_file(models[0], y))
    assert pair.similarity == pytest.approx(12 / 25)
    assert (pair.same, pair.threshold, pair.false_match_rate) == (True, 0.3, 0.001)
    assert facecodec.compare(faces_file(models[0], x), faces_file(models[0], z)).same is False
    assert facecodec.compare(faces_file(models[0], x), faces_file(models[0], x)).similarity == pytest.approx(
        1
    )


def test_where_no_threshold_is_strict_enough_the_strictest_decides(models):
    pair = facecodec.compare(*[faces_file(models[1], np.ones(256))] * 2)
    assert (pair.same, pair.threshold, pair.false_match_rate) == (True, 0.6, 0.002)


def test_embeddings_of_two_models_are_not_compared(models):
    one, two = (faces_file(model, np.ones(256)) for model in models)
    ids = [model.id.hex() for model in models]
    with pytest.raises(FscError, match=f"the models {ids[0]} and {ids[1]} cannot be compared"):
        facecodec.compare(one, two)


def test_a_file_without_a_face_is_not_compared(models):
    with pytest.raises(FscError, match="a file without a face cannot be compared"):
        facecodec.compare(faces_file(models[0], np.ones(256)), faces_file(models[0]))
