from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facecodec import cli, codec, encoder, faces
from facecodec.cli import measure
from facecodec.errors import FscError, WeightsError
from facecodec.evaluation import (
    detection,
    distortion,
    jobs,
    judges,
    pairs,
    pictures,
    rates,
    recognition,
    verify,
)
from facecodec.evaluation.peers import PEERS

SIDE = 48
HEAD = 20
LEVELS = (1, 2, 4, 8, 16)


class Toy:
    """A codec that any eye can follow: 20 bytes of head, then the mean colours of ever finer grids.

    A picture whose first pixel is black has no face; who is in it is its second pixel.
    """

    @staticmethod
    def encode(pixels: Any, *, quality: int = 75, layers: str = "full", no_face: str = "error") -> bytes:
        assert no_face == "encode"
        height, width = pixels.shape[:2]
        face = int(pixels[0, 0].any())
        head = bytes([width, height, face, *pixels[0, 1], *bytes(HEAD - 6)])
        grids = LEVELS[: 1 + round(quality / 25)] if layers == "full" else ()
        return head + b"".join(
            np.asarray(Image.fromarray(pixels).resize((n, n), Image.Resampling.BOX)).tobytes() for n in grids
        )

    @staticmethod
    def decode(data: bytes, *, layers: str = "full", convolve: Any = None) -> Any:
        width, height = data[:2]
        grid, at = np.full((1, 1, 3), 128, np.uint8), HEAD
        for n in LEVELS:
            if at + 3 * n * n <= len(data):
                grid = np.frombuffer(data, np.uint8, 3 * n * n, at).reshape(n, n, 3)
                at += 3 * n * n
        resized = Image.fromarray(grid).resize((width, height), Image.Resampling.NEAREST)
        return codec.Picture(np.asarray(resized), Toy.features(data), ())

    @staticmethod
    def features(data: bytes) -> codec.Features:
        width, _, count = data[:3]
        rows = np.repeat(np.frombuffer(data, np.uint8, 3, 3)[None].astype(np.float32), count, 0)
        unit = (rows + 1) / np.linalg.norm(rows + 1, axis=1, keepdims=True)
        points = np.repeat(faces.TEMPLATE[None] * width / 112, count, 0)
        boxes = np.full((count, 4), [8.0, 8.0, width - 8.0, width - 8.0])
        return codec.Features(unit, boxes.astype(np.float32), points.astype(np.float32), "toy")

    @staticmethod
    def embed(pixels: Any) -> Any:
        return Toy.features(Toy.encode(pixels, no_face="encode")).embeddings

    @staticmethod
    def truncate(data: bytes, max_bytes: int) -> bytes:
        if max_bytes < HEAD:
            raise FscError(f"the faces alone need {HEAD} bytes")
        return data[:max_bytes]

    @staticmethod
    def strip(data: bytes, keep: str) -> bytes:
        return data[:HEAD]

    @staticmethod
    def info(data: bytes) -> codec.Info:
        parts = (codec.Part("header", 0, 2), codec.Part("identity codes", 2, 4))
        return codec.Info(1, data[0], data[1], "toy", data[2], parts, ())


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("decode", "features", "truncate", "strip", "info"):
        monkeypatch.setattr(codec, name, getattr(Toy, name))
    for name in ("encode", "embed"):
        monkeypatch.setattr(encoder, name, getattr(Toy, name))
    monkeypatch.setattr(measure, "KINDS", ())


def portrait(seed: int, who: int, found: bool = True) -> np.ndarray:
    """Smooth enough that finer grids are better."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    pixels = np.array(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    pixels[0, 0] = 255 if found else 0
    pixels[0, 1] = (who, 255 - who, 40)
    return pixels


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three people twice in the folders of LFW, and one picture without a face."""
    folder = tmp_path / "album"
    for who, name in enumerate(["Ada", "Bo_Li", "Cy"]):
        (folder / name).mkdir(parents=True)
        for number in (1, 2):
            pixels = portrait(10 * who + number, 120 * who)
            (folder / name / f"{name}_{number:04}.png").write_bytes(png(pixels))
    (folder / "Cy" / "Cy_0003.png").write_bytes(png(portrait(7, 240, found=False)))
    return folder


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    encoded, lines = b"", []
    for i in range(5):
        picture = png(portrait(i, 50 * i))
        points = (faces.TEMPLATE * SIDE / 112).tolist()
        label = {"box": [8, 8, SIDE - 8, SIDE - 8], "points": points, "score": 0.9}
        record = {"id": f"p{i}", "source": "odd" if i % 2 else "even", "size": SIDE, "faces": [label]}
        lines.append(json.dumps(record | {"off": len(encoded), "len": len(picture)}))
        encoded += picture
    (tmp_path / "set.bin").write_bytes(encoded)
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    return tmp_path / "set.jsonl"


def fsc(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="fsc")


def ok(*arguments: str | Path) -> Result:
    result = fsc(*arguments)
    assert result.exit_code == 0, result.output
    return result


# pictures


def test_a_folder_of_pictures(album: Path) -> None:
    (album / "Cy" / "notes.txt").write_text("no picture")
    entries = pictures.open_pictures(album)
    assert [entry.id for entry in entries][:3] == ["Ada_0001", "Ada_0002", "Bo_Li_0001"]
    assert entries[2].source == "Bo_Li" and entries[2].labels is None
    np.testing.assert_array_equal(entries[3].pixels(), portrait(12, 120))


def test_pictures_of_one_name_are_told_apart_by_their_folders(album: Path) -> None:
    (album / "Ada" / "Cy_0001.png").write_bytes(png(portrait(0, 0)))
    ids = [entry.id for entry in pictures.open_pictures(album)]
    assert {"Ada/Cy_0001.png", "Cy/Cy_0001.png", "Cy_0002"} < set(ids)
    assert len(set(ids)) == len(ids)


def test_a_packed_set(packed: Path) -> None:
    entries = pictures.open_pictures(packed)
    assert [(entry.id, entry.source) for entry in entries][:2] == [("p0", "even"), ("p1", "odd")]
    for i in (3, 0):
        np.testing.assert_array_equal(entries[i].pixels(), portrait(i, 50 * i))
    assert entries[0].labels
    np.testing.assert_allclose(entries[0].labels[0].landmarks, faces.TEMPLATE * SIDE / 112)


def test_no_pictures(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(FscError, match=r"name one of its sets: .*set\.jsonl"):
        pictures.open_pictures(tmp_path)
    with pytest.raises(FscError, match="neither a folder"):
        pictures.open_pictures(tmp_path / "absent")
    with pytest.raises(FscError, match=r"absent\.jsonl cannot be read"):
        pictures.open_pictures(tmp_path / "absent.jsonl")
    for line in ("{}", "no json", '{"id": "a", "off": 0, "len": 1, "faces": [{"box": [1]}]}'):
        packed.write_text(line)
        with pytest.raises(FscError, match="line 1: no picture"):
            pictures.open_pictures(packed)


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
    assert recognition.accuracy(np.where(same, 0.8, 0.1), same, folds) == (1.0, 0.0)
    assert recognition.accuracy(np.where(same, 0.1, 0.8), same, folds)[0] <= 0.5
    missing = np.where(np.arange(40) < 4, np.nan, np.where(same, 0.8, 0.1))
    assert recognition.accuracy(missing, same, folds)[0] == pytest.approx(0.9)


def test_a_fold_is_judged_by_the_threshold_of_the_others() -> None:
    # Fold 1 could be told apart by a threshold of its own, but the other fold's, 0.5, fails it.
    similarities = np.array([0.9, 0.1, 0.4, 0.3])
    same, folds = np.array([True, False, True, False]), np.array([0, 0, 1, 1])
    assert recognition.accuracy(similarities, same, folds)[0] == pytest.approx((1.0 + 0.5) / 2)


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
    people = ["a", "a", "b", "b"]
    assert recognition.true_accept_rate(angles, people, 0.25) == 1.0
    assert recognition.true_accept_rate(angles, people, 0.1) is None
    assert recognition.true_accept_rate(angles, ["a", None, "b", "b"], 0.25) is None
    assert recognition.true_accept_rate(angles, ["a", "b", "c", "d"], 0.25) is None
    assert recognition.true_accept_rate(angles, ["a", "b", "b", "a"], 0.25) == 0
    angles[0] = np.nan
    assert recognition.true_accept_rate(angles, people, 0.25) == 0.5


def test_who_is_in_a_picture() -> None:
    assert recognition.person("Bo_Li_0013") == "Bo_Li"
    assert recognition.person("9312b5ab6e35") is None


# rates


def test_psnr() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    assert rates.psnr(black, black) == math.inf
    assert rates.psnr(black, black + 255) == 0
    assert rates.psnr(black, black + 16) == pytest.approx(24.0484, abs=1e-4)


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


# peers


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_reaches_from_few_bytes_to_a_good_picture(name: str) -> None:
    pixels = portrait(1, 1)
    files = list(PEERS[name].files(pixels))
    assert all(decoded.shape == pixels.shape and decoded.dtype == np.uint8 for _, _, decoded in files)
    sizes, qualities = rates.curve((size, rates.psnr(pixels, decoded)) for _, size, decoded in files)
    assert len(sizes) >= 5 and qualities[-1] > qualities[0] + 6
    assert len({setting for setting, _, _ in files}) == len(files)


# verification of the toy


def judge_of_colours(path: Path) -> Path:
    """A recogniser that sees the mean colour."""

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(-1, 3, 112 * 112).mean(2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(Mean().eval(), torch.zeros(1, 3, 112, 112)).save(str(path))
    return path


@pytest.fixture
def album_pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.csv"
    rows = [f"{name}_0001,{name}_0002,1" for name in ("Ada", "Bo_Li", "Cy")]
    rows += ["Ada_0001,Bo_Li_0001,0", "Bo_Li_0002,Cy_0002,0", "Cy_0003,Ada_0002,0"]
    file.write_text("\n".join(["a,b,same", *rows]) + "\n")
    return file


def test_verify_tells_people_apart(toy: None, album: Path, album_pairs: Path) -> None:
    text = ok("eval", "verify", "--pairs", album_pairs, "--images", album).stdout
    assert "6 pairs of 7 pictures; 1 without a face found" in text
    result = json.loads(ok("eval", "verify", "--pairs", album_pairs, "--images", album, "--json").stdout)
    assert result["without_face"] == ["Cy_0003"]
    assert result["identity_bytes"] == {"mean": 4, "max": 4}
    assert result["base_bytes"] == {"mean": HEAD, "max": HEAD}
    by_float, by_file = result["rows"]
    assert by_float["from"] == "photograph" and by_file["from"] == "identity codes of the file"
    assert by_float["mean_cosine"] is None and by_file["mean_cosine"] == pytest.approx(1)
    # Every pair that has two faces is judged rightly; the one without is an error in its fold.
    assert 0.5 < by_float["accuracy"] < 1
    assert by_float["true_accept_rate"] is None


def test_verify_by_a_judge(toy: None, album: Path, album_pairs: Path, tmp_path: Path) -> None:
    judge = judge_of_colours(tmp_path / "judge.ts")
    arguments = ["--pairs", album_pairs, "--images", album, "--judge", judge]
    budgets = ["--bytes", "10", "--bytes", "23", "--bytes", "900"]
    result = json.loads(ok("eval", "verify", *arguments, *budgets, "--json").stdout)
    names = ["judge, original", "judge, 10 bytes", "judge, 23 bytes", "judge, 900 bytes"]
    assert [row["name"] for row in result["rows"][2:]] == names
    original, nothing, flat, fine = result["rows"][2:]
    assert original["mean_cosine"] is None and nothing["mean_cosine"] is None
    assert nothing["accuracy"] == 0
    assert 0.9 < flat["mean_cosine"] < fine["mean_cosine"] < 1 + 1e-9
    assert "re-embedded by the judge" in fine["from"]
    names = [row["name"] for row in json.loads(ok("eval", "verify", *arguments, "--json").stdout)["rows"][3:]]
    assert names == [f"judge, {n} bytes" for n in measure.BUDGETS]


def test_verify_refuses(toy: None, album: Path, album_pairs: Path, tmp_path: Path) -> None:
    arguments = ["eval", "verify", "--pairs", album_pairs, "--images", album]
    assert fsc(*arguments, "--bytes", "100").exit_code == 2
    no_judge = tmp_path / "judge.ts"
    no_judge.write_bytes(b"no recogniser")
    assert fsc(*arguments, "--judge", no_judge).exit_code == WeightsError.exit_code
    assert fsc(*arguments, "--judge", tmp_path / "absent.ts").exit_code == 1
    (album / "Ada" / "Ada_0002.png").unlink()
    missing = fsc(*arguments)
    assert missing.exit_code == 1 and "1 pictures of" in missing.stderr and "Ada_0002" in missing.stderr


def test_the_face_that_a_picture_is_of() -> None:
    large_aside = [0.0, 0, 40, 40]
    central = [80.0, 80, 116, 116]
    assert verify._foremost(np.array([large_aside, central]), 200, 200) == 1
    assert verify._foremost(np.array([central, [60.0, 60, 140, 140]]), 200, 200) == 1


# rate and distortion of the toy


def test_rd_of_one_picture(toy: None, packed: Path) -> None:
    measured = distortion.measure(pictures.open_pictures(packed)[1], peers=["jpeg"], walked=True)
    assert (measured.id, measured.source, measured.width, measured.faces) == ("p1", "odd", SIDE, 1)
    ours = [point for point in measured.points if point.codec == "fsc"]
    assert ours[0].setting == "base" and ours[0].size == HEAD
    by_setting = {point.setting: point for point in ours}
    assert by_setting["quality=100"].size == HEAD + 3 * sum(n * n for n in LEVELS)
    assert by_setting["quality=25"].size < by_setting["quality=50"].size < by_setting["quality=75"].size
    assert sum(point.setting == "truncated" for point in ours) == distortion.STEPS - 2
    assert measured.fall is not None and 0 <= measured.fall < 1
    assert distortion.measure(pictures.open_pictures(packed)[1]).fall is None


def measured(name: str, source: str, side: int, ours: float, theirs: float) -> distortion.Measured:
    """Both codecs need so many bytes for 30 dB, and twice as many for 6 dB more."""
    points = [
        distortion.Point(
            codec, "base" if codec == "fsc" and q == 24 else f"{q}", round(size * 2 ** ((q - 30) / 6)), q
        )
        for codec, size in (("fsc", ours), ("jpeg", theirs))
        for q in (24, 30, 36)
    ]
    points += [distortion.Point("fsc", f"quality={q}", 10**9, 20.0) for q in (*distortion.QUALITIES, 100)]
    return distortion.Measured(name, source, side, side, 1, tuple(points), None)


def test_rd_report_is_the_mean_of_pictures() -> None:
    pictures_ = [
        measured("a", "x", 64, 400, 800),
        measured("b", "x", 64, 800, 1600),
        measured("c", "y", 64, 1200, 1200),
    ]
    report = distortion.report(pictures_, ["jpeg"])
    assert list(report["groups"]) == ["all", "x 64x64", "y 64x64"]
    everything = report["groups"]["all"]
    at_30 = report["targets"].index(30)
    assert everything["bytes"]["fsc"][at_30] == pytest.approx(800)
    assert everything["bytes"]["jpeg"][at_30] == pytest.approx(1200)
    difference = report["groups"]["x 64x64"]["rate_difference"]["jpeg"]
    assert difference["percent"] == pytest.approx(-50, abs=0.1)
    assert (difference["from_db"], difference["to_db"], difference["pictures"]) == (24, 36, 2)
    assert report["groups"]["all"]["settings"]["base"] == {"bytes": pytest.approx(400), "psnr": 24}
    assert report["largest_fall"] == {"pictures": 0, "stride": 16, "decibels": None}


def test_a_psnr_that_one_codec_misses_is_not_compared_on_that_picture() -> None:
    points = [p for p in measured("d", "x", 64, 1, 1).points if p.codec == "fsc" and p.psnr < 26]
    blurred = distortion.Measured("d", "x", 64, 64, 0, tuple(points), 0.25)
    group = distortion.report([measured("a", "x", 64, 400, 800), blurred], ["jpeg"])["groups"]["all"]
    assert group["compared"] == [1] * len(distortion.TARGETS)
    assert group["bytes"]["fsc"][2] == pytest.approx(400)
    report = distortion.report([blurred], [])
    assert report["without_face"] == 1 and report["groups"]["all"]["bytes"]["fsc"] == [None] * 5
    assert report["largest_fall"]["decibels"] == 0.25


def test_rd_command(toy: None, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "report" / "today"
    arguments = ["eval", "rd", "--images", packed, "--limit", "4", "--peers", "jpeg,webp"]
    text = ok(*arguments, "--walk", "1", "--out", out).stdout
    assert "| all, 4 pictures | 26 dB | 28 dB | 30 dB | 32 dB | 34 dB | our rate |" in text
    assert "| JPEG |" in text and "| AVIF |" not in text
    assert "over 1 pictures: 0." in text
    rows = (out / "rd.csv").read_text().splitlines()
    assert rows[0] == "id,source,width,height,faces,codec,setting,bytes,psnr"
    assert {row.split(",")[0] for row in rows[1:]} == {"p0", "p1", "p2", "p3"}
    kept = json.loads((out / "rd.json").read_text())
    assert kept["pictures"] == 4 and kept["images"] == str(packed)
    before = (out / "rd.csv").read_bytes()
    again = fsc(*arguments, "--out", out)
    assert again.exit_code == 1 and "--force" in again.stderr
    document = json.loads(ok(*arguments, "--walk", "0", "--out", out, "--force", "--json").stdout)
    assert document["groups"] == kept["groups"] and document["largest_fall"]["decibels"] is None
    assert (out / "rd.csv").read_bytes() == before


def test_rd_refuses(toy: None, packed: Path) -> None:
    assert "choices are jpeg" in fsc("eval", "rd", "--images", packed, "--peers", "gif").stderr
    assert fsc("eval", "rd", "--images", packed, "--limit", "0").exit_code == 2
    assert fsc("eval", "rd", "--images", packed.parent / "none").exit_code == 1
    assert list(PEERS) == list(measure.PEERS)


# faces


def test_the_detector_against_labels(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = (pictures.open_pictures(packed)[0].labels or ())[0]
    shifted = faces.Face(label.box, label.landmarks + np.array([1.5, 0]), 0.9)
    larger = faces.Face(np.array([-30.0, -30.0, 60.0, 60.0]), label.landmarks, 0.5)
    answers = iter([[shifted], [], [larger, shifted], [larger], [shifted]])
    monkeypatch.setattr(faces, "find", lambda pixels: next(answers))
    monkeypatch.setattr(measure, "KINDS", ())
    result = json.loads(ok("eval", "faces", "--images", packed, "--json").stdout)
    assert (result["pictures"], result["labelled"]) == (5, 5)
    assert result["found"] == pytest.approx(3 / 5) and result["found_first"] == pytest.approx(2 / 5)
    eyes = np.linalg.norm(label.landmarks[0] - label.landmarks[1])
    assert result["landmark_error"] == pytest.approx(1.5 / eyes)
    assert result["faces"] == 1
    monkeypatch.setattr(faces, "find", lambda pixels: [])
    text = ok("eval", "faces", "--images", packed, "--limit", "2").stdout
    assert "2 pictures, 2 with a label" in text and "0.00 %" in text


def test_pictures_that_show_nobody(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads(packed.read_text().splitlines()[0]) | {"faces": []}
    packed.write_text(json.dumps(record))
    monkeypatch.setattr(faces, "find", lambda pixels: [])
    found = detection.look(pictures.open_pictures(packed)[0])
    assert (found.labelled, found.found, found.hit, found.error) == (0, 0, False, None)
    report = detection.report([found])
    assert report["found"] is None and report["with_faces"] == 0


def test_faces_needs_labels(album: Path) -> None:
    result = fsc("eval", "faces", "--images", album)
    assert result.exit_code == 1 and "has no labels" in result.stderr


# jobs


def test_several_processes_give_the_same_in_the_same_order() -> None:
    items = list(range(7))
    assert list(jobs.run(math.factorial, items, 2)) == list(jobs.run(math.factorial, items)) != items


def test_a_judge_reads_rgb_of_the_aligned_frame(tmp_path: Path) -> None:
    judge = judges.load(judge_of_colours(tmp_path / "judge.ts"))
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 200
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(judge.embed([red, red[..., ::-1].copy()], identity), [[1, 0, 0], [0, 0, 1]])
