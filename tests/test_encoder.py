from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from samples import noise, portrait, waves

import facecodec
from facecodec import (
    base_layer,
    codec,
    container,
    encoder,
    enhancement,
    face_codes,
    faces,
    geometry,
    rans,
    wavelet,
    weights,
)
from facecodec.container import SectionType
from facecodec.entropy import code_groups
from facecodec.errors import FscError, ImageError, NoFaceError, WeightsError
from facecodec.identity import MAX_FACE_PIXELS
from facecodec.networks import encoder as networks
from facecodec.networks import restoration

LANDMARKS = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])


@pytest.fixture(scope="module")
def full():
    """Return the file of a portrait with everything that can be refined."""
    return facecodec.encode(portrait(64), aligned=True, quality=100)


def found(*places):
    """Return a stand-in for the detector: faces (scale, left, top) on an upright recognition frame."""
    faces = [SimpleNamespace(landmarks=LANDMARKS * scale + (left, top)) for scale, left, top in places]
    return lambda pixels: faces


def psnr(a, b):
    error = np.mean((a.astype(float) - b) ** 2)
    return 10 * np.log10(255**2 / error)


# Arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"quality": -1},
        {"quality": 101},
        {"layers": "preview"},
        {"no_face": "skip"},
        {"tune": "faces"},
        {"max_bytes": 500, "lossless": True},
        {"min_psnr": 30, "min_similarity": 0.9},
        {"max_bytes": 500, "min_psnr": 30},
        {"layers": "base", "lossless": True},
        {"layers": "base", "min_psnr": 30},
        {"layers": "base", "min_similarity": 0.9},
    ],
    ids=str,
)
def test_wrong_arguments_are_value_errors(arguments):
    with pytest.raises(ValueError, match=r"at most one|are base or full|the base layer alone|tune is"):
        facecodec.encode(portrait(64), aligned=True, **arguments)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((15, 64, 3), np.uint8),
        np.zeros((64, 15, 3), np.uint8),
        np.broadcast_to(np.uint8(0), (8193, 16, 3)),
        np.broadcast_to(np.uint8(0), (16, 8193, 3)),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((0, 0, 3), np.uint8),
        Image.new("RGB", (15, 64)),
        "portrait.png",
    ],
    ids=lambda pixels: str(getattr(pixels, "shape", pixels)),
)
def test_what_is_no_picture_within_the_limits_is_an_image_error(pixels):
    with pytest.raises(ImageError):
        facecodec.encode(pixels, aligned=True)


def test_the_largest_sides_are_within_the_limits(monkeypatch):
    monkeypatch.setattr("facecodec.faces.find", found())
    data = facecodec.encode(np.zeros((16, 8192, 3), np.uint8), no_face="encode", layers="base")
    assert facecodec.info(data).width == 8192


def test_pictures_of_any_layout_are_the_same_picture():
    pixels = portrait(64)
    expected = facecodec.encode(pixels, aligned=True)
    assert facecodec.encode(Image.fromarray(pixels), aligned=True) == expected
    assert facecodec.encode(np.asfortranarray(pixels), aligned=True) == expected
    read_only = pixels.copy()
    read_only.setflags(write=False)
    assert facecodec.encode(read_only, aligned=True) == expected


def test_pillow_pictures_are_read_as_files_are():
    transparent = Image.new("RGBA", (64, 64), (10, 20, 30, 0))
    white = np.full((64, 64, 3), 255, np.uint8)
    assert facecodec.encode(transparent, aligned=True) == facecodec.encode(white, aligned=True)


# Faces


def test_without_a_face_the_caller_decides(monkeypatch):
    monkeypatch.setattr("facecodec.faces.find", found())
    with pytest.raises(NoFaceError, match="no face was found"):
        facecodec.encode(waves(40, 50))
    data = facecodec.encode(waves(40, 50), no_face="encode")
    assert [section.type for section in container.parse(data).sections] == [1, 3]
    assert facecodec.features(data).embeddings.shape == (0, 256)
    assert encoder.embed(waves(40, 50)).shape == (0, 256)
    base = facecodec.encode(waves(40, 50), no_face="encode", layers="base")
    assert (facecodec.decode(base).pixels == 128).all()
    with pytest.raises(NoFaceError, match="a similarity can be reached only by a picture with a face"):
        facecodec.encode(waves(40, 50), no_face="encode", min_similarity=0.5)


def test_faces_are_stored_where_they_were_found(monkeypatch):
    monkeypatch.setattr("facecodec.faces.find", found((0.8, 10, 5), (0.4, 60, 40)))
    picture = portrait(120)
    data = facecodec.encode(picture, layers="base")
    result = facecodec.features(data)
    expected = np.array([LANDMARKS * 0.8 + (10, 5), LANDMARKS * 0.4 + (60, 40)]) + 0.5
    assert np.abs(result.landmarks - expected).max() < 0.25
    embedded = encoder.embed(picture)
    assert embedded.shape == (2, 256)
    alone = []
    for place in ((0.8, 10, 5), (0.4, 60, 40)):
        monkeypatch.setattr("facecodec.faces.find", found(place))
        alone.append(facecodec.encode(picture, layers="base"))
    assert np.array_equal(
        result.embeddings, np.concatenate([facecodec.features(one).embeddings for one in alone])
    )


@given(
    scale=st.floats(0.05, 20),
    angle=st.floats(-3, 3),
    centre=st.tuples(st.floats(1, 4000), st.floats(1, 3000)),
    noise=st.sampled_from([0, 0, 0.05]),
)
def test_landmarks_are_read_back_where_they_were_found(scale, angle, centre, noise):
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    points = (faces.TEMPLATE - 55.5) @ np.array([[a, b], [-b, a]]) + centre
    points += np.random.default_rng(0).normal(0, 1, (5, 2)) * noise * scale
    matrix = faces.similarity(points)
    misfit = np.abs(faces.TEMPLATE @ matrix[:, :2].T + matrix[:, 2] - points).max()
    assert noise or misfit < 1e-9 * scale + 1e-9
    pixels = np.broadcast_to(np.uint8(0), (3001, 4001, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces, "find", lambda _: [SimpleNamespace(landmarks=points)])
        (place,) = face_codes.places_in(pixels, False)
    assert np.abs(geometry.landmarks_and_box(place, 4001, 3001)[0] - 0.5 - points).max() <= 0.25 + misfit


def test_more_faces_than_a_file_holds_are_left_out(monkeypatch):
    monkeypatch.setattr("facecodec.faces.find", found((0.3, 0, 0), (0.3, 9, 0), (0.3, 0, 9)))
    monkeypatch.setattr(face_codes, "MAX_FACES", 2)
    assert facecodec.info(facecodec.encode(portrait(64), layers="base")).faces == 2


def test_no_more_faces_are_kept_than_a_decoder_has_time_to_place(monkeypatch):
    monkeypatch.setattr(faces, "find", found(*[(0.3, n, 9) for n in range(300)]))
    for side, most in ((64, 255), (2902, 254), (8192, 32)):
        places = face_codes.places_in(np.broadcast_to(np.uint8(0), (side, side, 3)), False)
        assert len(places) == most
        assert most * side**2 <= MAX_FACE_PIXELS
        assert places[0].qx < places[1].qx


def test_the_embedding_of_a_file_is_that_of_the_picture_up_to_the_codes():
    picture = portrait(112)
    coded = facecodec.features(facecodec.encode(picture, aligned=True, layers="base")).embeddings
    assert float((coded * encoder.embed(picture, aligned=True)).sum()) > 0.85


def test_a_base_layer_of_one_face_is_at_most_160_bytes(monkeypatch):
    monkeypatch.setattr("facecodec.faces.find", found((0.5, 4, 3)))
    for picture in (portrait(64), noise(64, 64), waves(64, 64), np.zeros((64, 64, 3), np.uint8)):
        data = facecodec.encode(picture, layers="base")
        assert len(data) <= 160
        faces = container.parse(data).sections[0]
        assert faces.offset <= 24
        assert faces.offset + faces.length <= 96


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), power=st.floats(0.2, 3))
def test_identity_codes_are_the_finest_that_fit(seed, power):
    model = base_layer.load(weights.newest("base"))
    floats = np.random.default_rng(seed).normal(0, 1, 256) * np.arange(1, 257) ** -power
    embedding = (floats / np.linalg.norm(floats)).astype(np.float32)
    codes = face_codes.identity_codes(embedding[None], 0.07, model)

    def size(row):
        return len(rans.encode(code_groups(row[None], model.identity)))

    assert size(codes[0]) <= face_codes.IDENTITY_BYTES
    decoded = base_layer.embeddings(codes)[0]
    alike = [
        base_layer.embeddings(networks.quantised(embedding[None] / np.float32(step), 15))[0] @ embedding
        for step in (0.07, 0.14, 0.28)
        if size(networks.quantised(embedding / np.float32(step), 15)) <= face_codes.IDENTITY_BYTES
    ]
    assert decoded @ embedding >= max(alike, default=0) - 1e-3


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), limit=st.sampled_from([0, 20, 40, 56, 200]))
def test_codes_are_limited_by_zeroing_the_last_dimensions(seed, limit):
    coders = base_layer.load(weights.newest("base")).identity
    codes = np.random.default_rng(seed).integers(-2, 3, (2, 256)) * (1 + seed % 4)

    def size(row):
        return len(rans.encode(code_groups(row[None], coders)))

    for row, short in zip(codes, face_codes.limited(codes, coders, limit), strict=True):
        same = int(np.argmin(short == row)) if (short != row).any() else 256
        assert not short[same // 8 * 8 :].any() or same == 256
        assert size(short) <= limit or not short.any()
        if same < 256:
            longer = np.where(np.arange(256) < same // 8 * 8 + 8, row, 0)
            assert size(longer) > limit


# Sizes and goals


def certain(data):
    """Return how many trits a file tells."""
    counted = []
    take = rans.EmbeddedDecoder.take

    def counting(*arguments):
        counted.append(take(*arguments))
        return counted[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rans.EmbeddedDecoder, "take", counting)
        facecodec.decode(data)
    return sum(part.size for part in counted)


@pytest.mark.parametrize("size", [230, 231, 232, 233, 400, 777, 1000])
def test_max_bytes_is_hit_within_three_and_nothing_is_lost_by_the_end(full, size):
    data = facecodec.encode(portrait(64), aligned=True, max_bytes=size)
    assert size - 3 <= len(data) <= size < len(full)
    assert certain(data) > certain(facecodec.truncate(full, size))


def test_max_bytes_below_the_base_layer_leaves_some_of_its_appearance(full):
    base, features = (facecodec.strip(full, keep) for keep in ("base", "features"))
    assert facecodec.encode(portrait(64), aligned=True, max_bytes=len(base)) == base
    for size in range(len(features), len(base)):
        data = facecodec.encode(portrait(64), aligned=True, max_bytes=size)
        assert size - 8 <= len(data) <= size
        assert facecodec.strip(data, "features") == features
        assert facecodec.verify(data) == ()
    with pytest.raises(FscError, match="the faces alone need"):
        facecodec.encode(portrait(64), aligned=True, max_bytes=len(features) - 1)


def test_max_bytes_beyond_the_base_layer_leaves_eight_bytes_at_most(full):
    base = facecodec.strip(full, "base")
    for size in range(len(base), len(base) + 40):
        for data in (
            facecodec.truncate(full, size),
            facecodec.encode(portrait(64), aligned=True, max_bytes=size),
        ):
            assert size - 8 <= len(data) <= size
            assert facecodec.verify(data) == ()


def test_files_of_several_sizes_are_those_of_each(full):
    base = len(facecodec.strip(full, "base"))
    sizes = [900, base + 2, base - 9, 10**6, 2 * base, base]
    for tune in ("fidelity", "recognition"):
        files = encoder.encode_within(portrait(64), sizes, aligned=True, tune=tune)
        for size, data in zip(sizes, files, strict=True):
            assert data == facecodec.encode(portrait(64), aligned=True, max_bytes=size, tune=tune)
    with pytest.raises(FscError, match="the faces alone need"):
        [*encoder.encode_within(portrait(64), [900, 40], aligned=True)]
    for wrong in ({"tune": "size"}, {"no_face": "skip"}):
        with pytest.raises(ValueError, match="tune is fidelity or recognition"):
            [*encoder.encode_within(portrait(64), [900], aligned=True, **wrong)]


def test_max_bytes_beyond_the_stream_gives_all_of_it(full):
    assert facecodec.encode(portrait(64), aligned=True, max_bytes=10**9) == full


def test_embeddings_hang_little_on_the_precision_of_the_processor(monkeypatch):
    face = portrait(112)
    views = np.array([face, face[:, :, ::-1], 255 - face, np.roll(face, 9, 0), face // 3])
    name = weights.newest("trunk")
    fast = networks.face_encoder(name).embed(views)
    monkeypatch.setattr(networks, "supported", lambda: False)
    slow = networks._face_encoder.__wrapped__(weights.load(name))
    reduced = slow.embed(views)
    monkeypatch.setattr(networks, "reduced", nullcontext)
    precise = slow.embed(views)
    assert (reduced * precise).sum(1).min() > 0.9995
    assert (fast * precise).sum(1).min() > 0.98


def test_many_faces_embed_as_each_alone_and_leave_the_threads_as_they_were():
    network, face = networks.face_encoder(weights.newest("trunk")), portrait(112)
    views = np.array([np.roll(face, shift, 1) for shift in range(networks.BATCH + 2)])
    threads = torch.get_num_threads()
    alone = np.concatenate([network.embed(view[None]) for view in views])
    assert np.abs(network.embed(views) - alone).max() < 1e-6
    assert torch.get_num_threads() == threads


def test_a_face_with_a_quarter_of_the_light_keeps_its_embedding():
    network, face = networks.face_encoder(weights.newest("trunk")), portrait(112)
    dark = np.floor(face * 0.25 + 0.5).astype(np.uint8)
    assert (network.embed(face[None]) * network.embed(dark[None])).sum() > 0.95  # 0.87 as it is
    black = np.zeros_like(face)
    assert np.isfinite(network.embed(black[None])).all()


def test_bright_faces_are_left_as_they_are():
    bright = np.full((2, 112, 112, 3), (restoration.LIGHT, 200, 255), np.uint8)
    assert restoration.lit(bright) is bright
    mixed = np.concatenate([bright, bright // 4])
    lit = restoration.lit(mixed)
    assert np.array_equal(lit[:2], bright)
    assert np.abs(lit.mean((1, 2, 3)) - restoration.LIGHT).min() < 1


def test_a_blurred_face_keeps_its_embedding():
    network, face = networks.face_encoder(weights.newest("trunk")), portrait(112)
    blurred = cv2.GaussianBlur(face, (0, 0), 2.0)
    assert (network.embed(face[None]) * network.embed(blurred[None])).sum() > 0.8  # 0.75 as it is


@pytest.mark.parametrize("sigma", [1.5, 2.0, 2.5])
def test_blur_is_measured_and_most_of_it_taken_back(sigma):
    face = portrait(112)
    blurred = cv2.GaussianBlur(face, (0, 0), sigma)
    assert abs(restoration.blurs(blurred[None])[0] - sigma) < 0.4
    sharp = restoration.focused(np.stack([face, blurred]))
    assert np.array_equal(sharp[0], face)
    before, after = (np.square(x.astype(float) - face).mean() for x in (blurred, sharp[1]))
    assert after < 0.7 * before


@pytest.mark.parametrize("value", [0, 90, 255])
def test_faces_in_focus_and_faces_without_any_detail_are_left_as_they_are(value):
    faces_seen = np.stack([portrait(112), np.full((112, 112, 3), value, np.uint8)])
    assert restoration.focused(faces_seen) is faces_seen


def test_quality_orders_sizes_and_reaches_everything(full):
    sizes = [len(facecodec.encode(portrait(64), aligned=True, quality=q)) for q in (0, 25, 50, 75, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == len(full)


def test_quality_rises_with_the_bytes(full):
    """Every 512 bytes improve the picture; 64 of them may cost it 0.05 dB at most."""
    lengths = range(len(facecodec.strip(full, "base")) + 64, len(full), 64)
    cuts = (facecodec.decode(codec.truncate(full, length)).pixels for length in lengths)
    quality = np.array([psnr(cut, portrait(64)) for cut in cuts])
    assert (np.maximum.accumulate(quality) - quality).max() <= 0.05
    assert np.diff(quality[::8]).min() > 0


def test_a_lower_quality_is_a_stream_of_its_own_that_ends_whole(full):
    data = facecodec.encode(portrait(64), aligned=True, quality=70)
    assert facecodec.verify(data) == ()
    assert len(data) < len(full)


def test_tuned_for_recognition_bits_go_to_the_middle_of_a_face_first(full):
    picture = portrait(128)
    files = {
        tune: facecodec.encode(picture, aligned=True, max_bytes=900, tune=tune)
        for tune in ("fidelity", "recognition")
    }
    assert [container.parse(data).find(SectionType.ENHANCEMENT).payload[2] for data in files.values()] == [
        0,
        1,
    ]
    assert all(897 <= len(data) <= 900 for data in files.values())
    inner, outer = np.s_[48:96, 40:88], np.s_[:16]
    plain, tuned = (facecodec.decode(data).pixels for data in files.values())
    assert psnr(tuned[inner], picture[inner]) > psnr(plain[inner], picture[inner]) + 0.5
    assert psnr(tuned[outer], picture[outer]) < psnr(plain[outer], picture[outer])


def test_either_tune_ends_in_all_but_the_same_picture(full):
    tuned = facecodec.encode(portrait(64), aligned=True, max_bytes=10**9, tune="recognition")
    pictures = (facecodec.decode(data).pixels.astype(int) for data in (tuned, full))
    assert np.abs(next(pictures) - next(pictures)).max() <= 2
    exact = facecodec.encode(portrait(64), aligned=True, lossless=True, tune="recognition")
    assert np.array_equal(facecodec.decode(exact).pixels, portrait(64))


def test_a_lossless_file_begins_as_one_of_less_quality():
    files = [
        facecodec.encode(portrait(64), aligned=True, **goal)
        for goal in ({"lossless": True}, {"quality": encoder.LOSSLESS_QUALITY})
    ]
    streams = [container.parse(data).find(SectionType.ENHANCEMENT).payload for data in files]
    assert streams[0] == streams[1]


def test_without_a_face_either_tune_sends_the_same():
    files = [facecodec.encode(waves(64, 64), no_face="encode", tune=t) for t in ("fidelity", "recognition")]
    streams = [container.parse(data).find(SectionType.ENHANCEMENT).payload[4:] for data in files]
    assert streams[0] == streams[1]


def test_min_psnr_is_reached_with_no_byte_to_spare(full):
    picture = portrait(64)
    best = psnr(facecodec.decode(full).pixels, picture)
    for lost in (1e-6, 0.5, 3):
        goal = best - lost
        data = facecodec.encode(picture, aligned=True, min_psnr=goal)
        assert psnr(facecodec.decode(data).pixels, picture) >= goal
        if lost > 0.05:  # the last trits of all may take as much off a picture as they add
            shorter = facecodec.truncate(data, len(data) - 1)
            assert psnr(facecodec.decode(shorter).pixels, picture) < goal
    with pytest.raises(FscError, match="99 dB cannot be reached without lossless coding"):
        facecodec.encode(noise(64, 64), aligned=True, min_psnr=99)


def test_min_similarity_is_reached(full):
    picture = portrait(64)
    wanted = encoder.embed(picture, aligned=True)

    def similarity(data):
        return float((encoder.embed(facecodec.decode(data).pixels, aligned=True) * wanted).sum())

    goal = similarity(full) - 1e-3
    data = facecodec.encode(picture, aligned=True, min_similarity=goal)
    assert similarity(data) >= goal
    assert len(data) <= len(full)
    with pytest.raises(FscError, match=r"a similarity of 1\.01 cannot be reached"):
        facecodec.encode(picture, aligned=True, min_similarity=1.01)


def test_tuned_for_recognition_few_bytes_never_make_a_face_less_alike():
    picture = portrait(128)
    wanted = encoder.embed(picture, aligned=True)

    def similarity(data):
        return float((encoder.embed(facecodec.decode(data).pixels, aligned=True) * wanted).sum())

    base = facecodec.encode(picture, aligned=True, layers="base")
    sizes = range(len(base) + 10, 3 * len(base), 40)
    plain, tuned = (
        [facecodec.encode(picture, aligned=True, max_bytes=size, tune=tune) for size in sizes]
        for tune in ("fidelity", "recognition")
    )
    assert min(map(similarity, plain)) < similarity(base)
    assert min(map(similarity, tuned)) >= similarity(base)
    for size, data in zip(sizes, tuned, strict=True):
        assert (data == base) == (size < encoder.DOUBTED * len(base))
        assert data == base or size - 8 < len(data) <= size


def test_psnr_is_that_of_all_samples():
    one, two = noise(33, 47, 1), noise(33, 47, 2)
    assert encoder._psnr(one, two) == pytest.approx(psnr(one, two), abs=1e-9)
    assert encoder._psnr(one, one) == float("inf")


# Networks


def test_encoding_is_repeatable_and_independent_of_the_picture_before(full):
    facecodec.encode(noise(40, 70), aligned=True)
    assert facecodec.encode(portrait(64), aligned=True, quality=100) == full


def test_faces_are_encoded_alike_in_batches_and_alone():
    network = networks.face_encoder(weights.newest("trunk"))
    rng = np.random.default_rng(0)
    near = rng.integers(0, 256, (70, 112, 112, 3)).astype(np.uint8)
    embedded = network.embed(near[[0, 69]])
    assert np.abs(np.linalg.norm(embedded, axis=1) - 1).max() < 1e-5
    wide = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    model = base_layer.load(weights.newest("base"))
    identity = face_codes.identity_codes(embedded, network.step, model)
    show = partial(base_layer.previews, identity, model=model)
    appearance = network.codes(wide, show)
    assert (identity.shape, appearance.shape) == ((2, 256), (2, 256))
    assert np.abs(identity).max() <= 15
    assert np.abs(appearance).max() <= 63
    alone = network.codes(wide[:1], partial(base_layer.previews, identity[:1], model=model))
    assert np.abs(appearance[:1] - alone).max() <= 1


def test_appearance_codes_make_up_for_what_the_preview_lacks():
    model = base_layer.load(weights.newest("base"))
    network = face_codes.face_encoder(model)
    near, wide = networks.views(portrait(112), [np.eye(2, 3)])
    identity = face_codes.identity_codes(network.embed(near), network.step, model)
    show = partial(base_layer.previews, identity, model=model)
    appearance, blind = network.codes(wide, show), network.codes(wide, lambda codes: wide)

    def error(codes):
        return np.square(show(codes).astype(float) - wide).mean()

    assert (appearance != blind).any()
    assert error(appearance) < error(blind)


def test_the_latents_of_tiles_are_those_of_the_whole(monkeypatch):
    picture, prediction = waves(330, 400), noise(330, 400)
    nobody = base_layer.Faces((), np.empty((0, base_layer.IDENTITY), np.int32))

    def cells():
        return encoder._detail(picture, prediction, nobody, enhancement.Flags(0)).cells

    whole = cells()
    assert (whole.dtype, whole.shape) == (np.int16, (3 * 336 * 400,))
    monkeypatch.setattr(encoder, "TILE", 128)
    off = np.abs(cells() - whole)
    assert off.max() <= 1
    assert np.count_nonzero(off) < 100
    monkeypatch.setattr(wavelet, "REACH", 0)
    assert np.count_nonzero(cells() - whole) > 1000


def test_float_weights_of_another_network_are_refused(monkeypatch):
    trunk = weights.load(weights.newest("trunk"))
    fewer = replace(trunk, tensors={k: v for k, v in trunk.tensors.items() if k != "trunk.embed.bias"})
    with pytest.raises(WeightsError, match=r"trunk-v\d+ is not for this network"):
        networks._face_encoder(fewer)


def test_a_trunk_for_another_base_model_is_refused():
    model = base_layer.load(weights.newest("base"))
    assert face_codes.face_encoder(model).base == model.id
    with pytest.raises(WeightsError, match=r"trunk-v\d+ is for the base model [0-9a-f]{8}, not for 01020304"):
        face_codes.face_encoder(replace(model, id=bytes([1, 2, 3, 4])))
