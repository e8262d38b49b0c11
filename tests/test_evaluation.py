from __future__ import annotations

import copy
import hashlib
import io
import math
import re
import sys
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import samples
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facecodec import faces
from facecodec.errors import FscError, WeightsError
from facecodec.evaluation import (
    codes,
    degrade,
    formats,
    groups,
    jobs,
    judges,
    looks,
    pairs,
    peers,
    pictures,
    quality,
    rates,
    recognition,
    verify,
)
from facecodec.evaluation.external import STEPS, External, external
from facecodec.evaluation.formats import FORMATS
from facecodec.evaluation.journal import Journal

# pairs


def test_pairs_as_csv(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("a,b,same\n" + "x,y,1\nx,z,0\n" * 20)
    found = pairs.read_pairs(file)
    assert found.ids[:2] == (("x", "y"), ("x", "z"))
    assert found.pictures() == ["x", "y", "z"]
    assert found.same.tolist() == [True, False] * 20
    for fold in range(pairs.FOLDS):
        assert found.same[found.folds == fold].tolist().count(True) == 2
        assert (found.folds == fold).sum() == 4


def test_pairs_as_lfw_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("2 1\nAda\t1\t2\nAda\t2\tBo_Li\t13\nCy\t1\t3\nCy\t2\tAda\t1\n")
    found = pairs.read_pairs(file)
    assert found.ids[1] == ("Ada_0002", "Bo_Li_0013")
    assert found.same.tolist() == [True, False, True, False]
    assert found.folds.tolist() == [0, 0, 1, 1]
    file.write_text("2\nAda 1 2\nCy 1 3\nAda 2 Bo 1\nCy 2 Ada 1\n")
    assert sorted(pairs.read_pairs(file).folds.tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pairs"),
        ("a,b\nx,y\n", "neither CSV"),
        ("a,b,same\nx,y,1\nx,y,yes\n", "line 3: a pair is two ids"),
        ("a,b,same\nx,,1\n", "line 2"),
        ("1 1\nAda 1 2\nAda 1\n", "line 3: a pair is NAME"),
        ("1 2\nAda 1 2\nAda 1 Bo 2\n", "holds 4 pairs, and holds 2"),
    ],
)
def test_files_that_hold_no_pairs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(FscError, match=message):
        pairs.read_pairs(tmp_path / "pairs")


@given(st.lists(st.booleans(), min_size=20))
def test_folds_are_balanced_and_the_same_every_time(kinds: list[bool]) -> None:
    same = np.array(kinds)
    folds = pairs.deal(same)
    np.testing.assert_array_equal(folds, pairs.deal(same))
    for kind in (True, False):
        counts = np.bincount(folds[same == kind], minlength=pairs.FOLDS)
        assert counts.max() - counts.min() <= 1


# recognition


def test_accuracy_of_what_can_be_told_apart() -> None:
    same = np.arange(40) % 2 == 0
    folds = pairs.deal(same)

    def accuracy(similarities: np.ndarray) -> tuple[float, float]:
        return recognition.accuracy(recognition.decisions(similarities, same, folds), folds)

    assert accuracy(np.where(same, 0.8, 0.1)) == (1.0, 0.0)
    assert accuracy(np.where(same, 0.1, 0.8))[0] <= 0.5
    missing = np.where(np.arange(40) < 4, np.nan, np.where(same, 0.8, 0.1))
    assert accuracy(missing)[0] == pytest.approx(0.9)


def test_a_fold_is_judged_by_the_threshold_of_the_others() -> None:
    # Fold 1 could be told apart by a threshold of its own, but the other fold's, 0.5, fails it.
    similarities = np.array([0.9, 0.1, 0.4, 0.3])
    same, folds = np.array([True, False, True, False]), np.array([0, 0, 1, 1])
    right = recognition.decisions(similarities, same, folds)
    assert right.tolist() == [True, True, False, True]
    assert recognition.accuracy(right, folds)[0] == pytest.approx((1.0 + 0.5) / 2)


@given(
    st.lists(
        st.tuples(st.integers(-10, 10).map(lambda v: v / 10) | st.just(math.nan), st.booleans()), min_size=1
    )
)
def test_no_threshold_judges_more_pairs_right(scored: list[tuple[float, bool]]) -> None:
    similarities = np.array([s for s, _ in scored])
    same = np.array([k for _, k in scored])
    usable = ~np.isnan(similarities)

    def right(limit: float) -> int:
        return int((((similarities >= limit) == same) & usable).sum())

    best = right(recognition.threshold(similarities, same))
    assert all(right(limit) <= best for limit in np.arange(-1.15, 1.3, 0.1))


def test_true_accept_rate() -> None:
    # 2 people, 4 pictures: 2 genuine pairs, 4 others of cosines 0, 0, 0.6, 0.6; a quarter may pass.
    angles = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 1]])

    def rate(people: str, share: float) -> float | None:
        return recognition.true_accept_rate(*recognition.all_pairs(angles, list(people)), share)

    assert rate("aabb", 0.25) == 1.0
    assert rate("aabb", 0.1) is None
    assert rate("abcd", 0.25) is None
    assert rate("abba", 0.25) == 0
    angles[0] = np.nan
    assert rate("aabb", 0.25) == 0.5


def test_roc() -> None:
    genuine = recognition.histogram(np.array([0.9, 0.8, 0.2, np.nan]))
    impostor = recognition.histogram(np.array([0.5, 0.1, 0.0, -0.3]))
    curve = recognition.roc(genuine, impostor)
    assert curve[0] == (pytest.approx(0.25), 0.75)
    assert curve[-1] == (pytest.approx(1.0), 1.0)
    assert all(a[1] <= b[1] for a, b in pairwise(curve))
    assert recognition.roc(genuine, impostor * 0) == []


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(0.05, 1))
def test_no_more_than_the_share_passes_the_limit(similarities: list[float], share: float) -> None:
    counts = recognition.histogram(np.array(similarities))
    limit = recognition.limit(counts, share)
    if limit is None:
        assert int(len(similarities) * share) == 0
        return
    assert (recognition.above(counts, limit) or 0) <= share + 1e-12
    lower = recognition.above(counts, limit - 2 / recognition.BINS)
    assert limit == -1 or (lower or 0) > int(len(similarities) * share) / len(similarities) - 1e-12


def test_resampled_accuracies_scatter_around_the_accuracy() -> None:
    same = np.arange(200) % 2 == 0
    right = np.stack([np.arange(200) % 4 > 0, np.ones(200, bool)])
    drawn = recognition.resampled(right, same)
    np.testing.assert_array_equal(drawn, recognition.resampled(right, same))
    assert drawn.shape == (1000, 2)
    # Half of the pairs of one kind are wrong: the variance is that of a coin thrown 100 times.
    assert drawn[:, 0].mean() == pytest.approx(0.75, abs=0.005)
    assert drawn[:, 0].std() == pytest.approx(0.025, abs=0.003)
    assert (drawn[:, 1] == 1).all()


def test_who_is_in_a_picture() -> None:
    assert recognition.person("Bo_Li_0013") == "Bo_Li"
    assert recognition.person("9312b5ab6e35") is None


# rates


def test_a_curve_keeps_what_no_other_file_beats() -> None:
    sizes, qualities = rates.curve([(200, 30), (100, 20), (150, 19), (200, 31), (300, 31), (400, math.inf)])
    assert sizes.tolist() == [100, 200]
    assert qualities.tolist() == [20, 31]


def test_bytes_for_a_psnr() -> None:
    curve = rates.curve([(100, 20.0), (400, 30.0)])
    assert rates.bytes_for(curve, 25) == pytest.approx(200)
    assert rates.bytes_for(curve, 10) == pytest.approx(100)
    assert rates.bytes_for(curve, 30.1) == math.inf
    assert rates.bytes_for(rates.curve([]), 20) == math.inf


@given(st.floats(0.2, 5), st.lists(st.integers(50, 400), min_size=2, max_size=8, unique=True))
def test_rate_difference_of_files_that_are_as_much_larger(factor: float, tenths: list[int]) -> None:
    qualities = np.sort(np.array(tenths)) / 10
    sizes = np.exp(qualities / 7)
    found = rates.rate_difference((factor * sizes, qualities), (sizes, qualities))
    assert found
    assert found[0] == pytest.approx(math.log(factor), abs=1e-9)
    assert found[1:] == (qualities[0], qualities[-1])


def test_rate_difference_only_where_curves_overlap() -> None:
    a = rates.curve([(100, 20.0), (200, 25.0), (400, 30.0)])
    b = rates.curve([(300, 25.0), (600, 30.0), (1200, 35.0)])
    found = rates.rate_difference(a, b)
    assert found
    assert found[0] == pytest.approx(math.log(2 / 3))
    assert found[1:] == (25.0, 30.0)
    assert rates.rate_difference(a, rates.curve([(100, 31.0), (200, 33.0)])) is None
    assert rates.rate_difference(a, rates.curve([(100, 25.0)])) is None


@given(st.lists(st.integers(0, 100), min_size=2, max_size=12))
def test_the_cubic_passes_its_points_and_never_overshoots(steps: list[int]) -> None:
    y = np.cumsum(np.array(steps, np.float64))
    x = np.cumsum(1.0 + np.array(steps[::-1]) % 7)
    np.testing.assert_allclose(rates.monotone_cubic(x, y, x), y, atol=1e-9)
    between = rates.monotone_cubic(x, y, np.linspace(x[0], x[-1], 200))
    assert (np.diff(between) >= -1e-9).all()


def test_the_cubic_as_others_compute_it() -> None:
    # scipy.interpolate.PchipInterpolator([0, 1, 3, 4], [0, 1, 2, 6]) has the inner slopes 9/13 and 18/17 ...
    x, y = np.array([0.0, 1, 3, 4]), np.array([0.0, 1, 2, 6])
    d1 = (5 + 4) / (5 / 1 + 4 / 0.5)
    d2 = (4 + 5) / (4 / 0.5 + 5 / 4)
    expected = (1 + 2) / 2 + 2 * (d1 - d2) / 8
    assert rates.monotone_cubic(x, y, np.array([2.0]))[0] == pytest.approx(expected)


def test_the_largest_fall() -> None:
    assert rates.largest_fall([20, 21, 21, 25]) == 0
    assert rates.largest_fall([20, 25, 24.5, 24, 26]) == 1
    assert rates.largest_fall([20, math.inf, math.inf]) == 0
    assert rates.largest_fall([20, math.inf, 30]) == math.inf


# quality


def test_psnr() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    assert quality.psnr(black, black) == math.inf
    assert quality.psnr(black, black + 255) == 0
    assert quality.psnr(black, black + 16) == pytest.approx(24.0484, abs=1e-4)


@pytest.mark.parametrize(("size", "expected"), [(1, 0.99949942), (8, 0.97923226), (40, 0.81087157)])
def test_ms_ssim_as_others_compute_it(size: int, expected: float) -> None:
    # By pytorch-msssim 1.0.0.
    with Image.open(samples.ASTRONAUT) as image:
        a = np.array(image.convert("RGB").crop((140, 0, 396, 256)))
    y, x = np.mgrid[:256, :256, :1][:2]
    b = np.clip(a + np.round(size * np.sin(y * 1.3) * np.cos(x * 0.7)), 0, 255).astype(np.uint8)
    assert quality.ms_ssim(a, b) == pytest.approx(expected, abs=2e-5)


def test_ms_ssim_of_small_pictures() -> None:
    for side in (16, 40, 100):
        a = samples.portrait(side)
        assert quality.ms_ssim(a, a) == 1
        noisy = np.clip(a + samples.noise(side, side) * 0.1, 0, 255).astype(np.uint8)
        assert 0 < quality.ms_ssim(a, noisy) < 0.99
    assert quality.decibels(0.99) == pytest.approx(20) and quality.decibels(1.0) == math.inf


# peers


@pytest.mark.parametrize("name", formats.present())
def test_a_peer_reaches_from_few_bytes_to_a_good_picture(name: str) -> None:
    pixels = samples.portrait(48)
    files = list(peers.sweep(FORMATS[name], pixels))
    assert all(file.pixels.shape == pixels.shape and file.pixels.dtype == np.uint8 for file in files)
    assert all(file.encode_ms >= 0 and file.decode_ms >= 0 for file in files)
    sizes, qualities = rates.curve((file.size, quality.psnr(pixels, file.pixels)) for file in files)
    assert len(sizes) >= 5 and qualities[-1] > qualities[0] + 6
    assert len({file.setting for file in files}) == len(files)


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000", "webp"])
def test_the_best_file_within_a_budget(name: str) -> None:
    peer, pixels = FORMATS[name], samples.portrait(48)
    sizes = [len(peer.encode(Image.fromarray(pixels), setting)) for setting in peer.ladder]
    budgets = (min(sizes) - 1, sizes[len(sizes) // 2], max(sizes))
    nothing, middle, best = peers.fitted(peer, pixels, budgets)
    assert nothing is None and middle and best
    assert middle[0] <= budgets[1] and best[0] == sizes[-1]
    assert quality.psnr(pixels, middle[1]) < quality.psnr(pixels, best[1])


@pytest.mark.parametrize("name", formats.present())
def test_small_and_grey_variants(name: str) -> None:
    pixels = samples.portrait(64)
    colour, grey = (
        peers.fitted(FORMATS[name], pixels, [4000], peers.Variant(0.5, g))[0] for g in (False, True)
    )
    assert colour and grey and grey[0] < colour[0]
    assert grey[1].shape == pixels.shape and np.ptp(grey[1].astype(int), axis=2).max() <= 3


def test_a_variant_says_what_it_is() -> None:
    assert peers.AS_IT_IS.title == "full size, colour"
    assert peers.Variant(0.35, True).title == "35 % a side, grey"


def test_peers_by_name() -> None:
    chosen = peers.chosen(["webp", "jpeg"], ["mine=a {input} {output} {quality} ;; b {input} {output}"])
    assert [peer.name for peer in chosen] == ["webp", "jpeg", "mine"]
    with pytest.raises(FscError, match="gif is no format"):
        peers.chosen(["gif"])
    for name in ("webp", "fsc"):
        with pytest.raises(FscError, match="a name of its own"):
            peers.chosen(["webp"], [f"{name}=a {{input}} {{output}} {{quality}} ;; b {{input}} {{output}}"])


def test_a_format_without_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    assert formats.present() == ("jpeg", "jpeg2000", "webp", "avif")
    with pytest.raises(FscError, match="jpegxl needs the Python package pillow_jxl"):
        peers.chosen(["jpegxl"])


# external codecs

CODER = """
import sys
from PIL import Image
work, source, target, *rest = sys.argv[1:]
if work == "encode":
    Image.open(source).save(target, "JPEG", quality=100 - int(rest[0]))
else:
    Image.open(source).save(target, "PNG")
"""


def coder(tmp_path: Path, decoder: str = "decode {input}.jpg {output}") -> External:
    script = tmp_path / "my coder.py"
    script.write_text(CODER)
    words = f'{sys.executable} "{script}"'
    return external(f"mine={words} encode {{input}} {{output}}.jpg {{quality:90..10}} ;; {words} {decoder}")


def test_an_external_codec(tmp_path: Path) -> None:
    peer, pixels = coder(tmp_path), samples.portrait(32)
    assert (peer.name, peer.title, peer.suffix) == ("mine", "mine", ".jpg")
    assert peer.ladder[0] == 90 and peer.ladder[-1] == 10 and len(peer.sweep) == STEPS
    image = Image.fromarray(pixels)
    coarse, fine = (peer.encode(image, quality) for quality in (90, 10))
    expected = io.BytesIO()
    image.save(expected, "JPEG", quality=90)
    assert len(coarse) < len(fine) and fine == expected.getvalue()
    np.testing.assert_array_equal(peer.decode(fine), Image.open(expected).convert("RGB"))
    assert pickle_free_copy(peer) == peer


def pickle_free_copy(peer: External) -> External:
    """Other processes get copies."""
    return copy.deepcopy(peer)


def test_words_of_a_command_are_never_a_shell(tmp_path: Path) -> None:
    peer = external("mine=echo {input};touch${IFS}x {output} {quality} ;; b {input} {output}")
    assert peer.encoder == ("echo", "{input};touch${IFS}x", "{output}", "{quality}")


def test_external_codecs_that_fail(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16))
    with pytest.raises(FscError, match="did not run"):
        external("x=/no/such {input} {output} {quality} ;; b {input} {output}").encode(image, 1)
    with pytest.raises(FscError, match=r"mine: .* failed with code 1: ValueError"):
        coder(tmp_path).encode(image, "x")  # type: ignore[arg-type]
    with pytest.raises(FscError, match="wrote no picture"):
        coder(tmp_path, "decode {input}.jpg {output}.other").decode(coder(tmp_path).encode(image, 50))
    silent = external(f"x={sys.executable} -c 0 {{input}} {{output}} {{quality}} ;; b {{input}} {{output}}")
    with pytest.raises(FscError, match="cannot be read"):
        silent.encode(image, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enc {input} {output} {quality} ;; dec {input} {output}", "is NAME=ENCODE ;; DECODE"),
        ("x=enc {input} {output} {quality}", "is NAME=ENCODE ;; DECODE"),
        ("x=enc {input} {output} ;; dec {input} {output}", "enc needs {input}, {output}, {quality}"),
        ("x=enc {input} {output} {quality} ;; dec {input}", "dec needs {input}, {output}"),
        ("x='enc {input} {output} {quality} ;; dec {input} {output}", "closing quotation"),
    ],
)
def test_what_is_no_external_codec(text: str, message: str) -> None:
    with pytest.raises(FscError, match=re.escape(message) if "{" in message else message):
        external(text)


def judge_of_colours(path: Path) -> Path:
    """A recogniser that sees the mean colour."""

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(-1, 3, 112 * 112).mean(2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(Mean().eval(), torch.zeros(1, 3, 112, 112)).save(str(path))
    return path


# jobs


def test_several_processes_give_the_same_in_the_same_order() -> None:
    items = list(range(7))
    assert list(jobs.run(math.factorial, items, 2)) == list(jobs.run(math.factorial, items)) != items


def test_a_judge_reads_rgb_of_the_aligned_frame(tmp_path: Path) -> None:
    judge = judges.load(str(judge_of_colours(tmp_path / "judge.ts")))
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 200
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    found = judges.embed(judge, [red, red[..., ::-1].copy()], identity)
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 0, 1]])


def test_a_judge_from_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "judge.onnx"
    file.write_bytes(onnx_mean())
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 255
    found = judges.load(str(file)).look(np.array([red, red]))
    np.testing.assert_allclose(found, [[1, -1, -1]] * 2, atol=1e-6)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match="no ONNX recogniser"):
        judges.load(str(tmp_path / "bad.onnx"))


def onnx_mean() -> bytes:
    """The network of one GlobalAveragePool, as protocol buffers."""

    def field(number: int, value: bytes | str | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        data = value.encode() if isinstance(value, str) else value
        return bytes([number << 3 | 2, len(data)]) + data

    def tensor(name: str, *sides: int) -> bytes:
        shape = b"".join(field(1, field(1, side)) for side in sides)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, "x") + field(2, "y") + field(4, "GlobalAveragePool")
    graph = field(1, node) + field(2, "g") + field(11, tensor("x", 1, 3, 112, 112))
    graph += field(12, tensor("y", 1, 3, 1, 1))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def test_a_judge_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judge.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FscError, match="needs the Python package onnxruntime"):
        judges.load(str(tmp_path / "judge.onnx"))


def test_what_tells_judges_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert judges.identity("own") == "own"
    assert judges.identity(str(tmp_path / "a")) == hashlib.sha256(b"a").hexdigest()


# journal


@dataclass(frozen=True, eq=False)
class Inner:
    value: float


@dataclass(frozen=True, eq=False)
class Finished:
    id: str
    embedding: Any
    parts: tuple[Inner, ...]


def finished(name: str) -> Finished:
    return Finished(name, np.array([0.1, -1e-30, 3e38], np.float32), (Inner(math.inf), Inner(0.1)))


def test_a_journal_gives_back_the_very_numbers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.jsonl"
    for journal in (Journal(None, {}), Journal(path, {"a": 1})):
        journal.add("p", finished("p"))
    for records in (journal.records, Journal(path, {"a": 1}).records):
        kept = records["p"]
        assert kept["id"] == "p" and kept["parts"] == [{"value": math.inf}, {"value": 0.1}]
        assert kept["embedding"].dtype == np.float32
        np.testing.assert_array_equal(kept["embedding"], finished("p").embedding)
    with pytest.raises(TypeError):
        journal.add("q", Finished("q", np.zeros(1), ()))


def test_a_journal_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    journal = Journal(path, {"a": 1})
    for name in "pq":
        journal.add(name, finished(name))
    path.write_bytes(path.read_bytes()[:-9])
    again = Journal(path, {"a": 1})
    assert list(again.records) == ["p"]
    again.add("r", finished("r"))
    assert list(Journal(path, {"a": 1}).records) == ["p", "r"]


def test_a_journal_of_other_conditions(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    Journal(path, {"a": 1, "b": 2}).add("p", finished("p"))
    with pytest.raises(FscError, match="measured with other b; --force"):
        Journal(path, {"a": 1, "b": 3})
    assert Journal(path, {"a": 1, "b": 3}, force=True).records == {}
    path.write_text("no journal\n")
    with pytest.raises(FscError, match="something else"):
        Journal(path, {})


# degraded photographs


def test_degraded_photographs() -> None:
    pixels = samples.portrait(200)
    face = faces.Face(np.array([50.0, 40, 146, 160]), faces.TEMPLATE + 44, 1.0)
    made = {kind: degraded(pixels, face) for kind, degraded in degrade.KINDS.items()}
    assert set(made) == set(degrade.TITLES)
    assert made["small"].shape == (100, 100, 3)
    assert all(made[kind].shape == pixels.shape for kind in made if kind != "small")
    assert made["dark"].max() <= 64
    detail = {kind: np.abs(np.diff(made[kind].astype(int), axis=1)).mean() for kind in ("blurred", "JPEG")}
    assert detail["blurred"] < 0.8 * np.abs(np.diff(pixels.astype(int), axis=1)).mean()
    assert 20 < quality.psnr(pixels, made["JPEG"]) < 40
    middle = tuple(face.landmarks.mean(0).round().astype(int)[::-1])
    assert np.abs(made["turned"][middle].astype(int) - pixels[middle]).max() < 30
    tiny = faces.Face(np.array([0.0, 0, 30, 40]), faces.TEMPLATE, 1.0)
    assert degrade.small(pixels, tiny) is pixels


# identity codes of other sizes


def test_tables_of_codes() -> None:
    found = codes.quantised(np.random.default_rng(0).normal(0, 0.06, (50, 32)).astype(np.float32), 24, 0.04)
    assert (found[:, 24:] == 0).all() and np.abs(found).max() <= 15
    rows = codes.frequencies(found)
    assert rows.shape == (4, 31) and (rows.sum(1) == 1 << codes.PRECISION).all()
    for group, row in enumerate(rows):
        assert (row[found[:, 8 * group : 8 * group + 8] + 15] > 0).all()
    sizes = codes.coded_bytes(found)
    assert np.mean(sizes) == pytest.approx(codes._information(found), abs=0.5)


def test_accuracy_against_bytes_of_code() -> None:
    rng = np.random.default_rng(1)
    people = rng.normal(size=(30, 256)) * np.geomspace(1, 0.1, 256)
    shots = np.repeat(people, 2, 0) + 0.5 * rng.normal(size=(60, 256)) * np.geomspace(1, 0.1, 256)
    unit = (shots / np.linalg.norm(shots, axis=1, keepdims=True)).astype(np.float32)
    seen = [looks.Seen(f"P{i // 2}_{i % 2:04}", {}, 1, 0, 0, e) for i, e in enumerate(unit)]
    ids = [(seen[2 * i].id, seen[2 * i + 1].id) for i in range(30)]
    ids += [(seen[2 * i].id, seen[2 * i - 1].id) for i in range(30)]
    same = np.arange(60) < 30
    table = verify.Verification(seen, pairs.Pairs(tuple(ids), same, pairs.deal(same)))
    curve = codes.curve([*(s.embedding for s in seen[:-1]), None], table)
    assert [point["target"] for point in curve] == list(codes.TARGETS)
    assert all(point["bytes"] <= point["target"] and point["most"] >= point["bytes"] for point in curve)
    assert all(point["missing"] == 1 for point in curve)
    cosines = [point["mean_cosine"] for point in curve]
    assert cosines == sorted(cosines) and cosines[-1] > 0.95
    assert codes.curve([None] * 60, table) == []


# bytes needed


def test_intervals_in_words() -> None:
    assert verify.interval(np.array([5.0, *range(1, 101)])) == {"value": 5, "low": 3, "high": 98}
    assert verify.interval(np.array([0.0, 0, math.inf])) == {
        "value": "below",
        "low": "below",
        "high": "beyond",
    }
    assert verify.interval(np.array([math.nan, math.nan])) == {"value": None, "low": None, "high": None}


# groups


def test_groups_by_label_and_by_band() -> None:
    tags = [{"age": age, "group": "x"} for age in ("3", "20", "39.5", "70")]
    assert groups.labelled(tags, "group") == ["x"] * 4
    bands = groups.labelled(tags, "age", [40, 20])
    assert bands == ["below 20", "20 to 40", "20 to 40", "40 and above"]
    entries = [pictures.Entry(str(i), "", Path(), tags=tag) for i, tag in enumerate([*tags, {"sex": "f"}])]
    assert [entry.id for entry in groups.having(entries, "age")] == list("0123")
    with pytest.raises(FscError, match="no picture has a label 'skin'; there are age, group, sex"):
        groups.having(entries, "skin")
    with pytest.raises(FscError, match="not a number"):
        groups.labelled(tags, "group", [1])
