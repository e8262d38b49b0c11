from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from test_evaluation import judge_of_colours

from facecodec import account, cli, codec, encoder, faces, identity
from facecodec.cli import measure_options
from facecodec.errors import FscError, WeightsError
from facecodec.evaluation import (
    degrade,
    detection,
    distortion,
    judges,
    looks,
    peers,
    pictures,
    quality,
    report,
    thousand,
)
from facecodec.evaluation.formats import FORMATS

SIDE = 48
HEAD = 20
LEVELS = (1, 2, 4, 8, 16)
PLAIN_JPEG = ("jpeg", "full size, colour")


class Toy:
    """A codec that any eye can follow: 20 bytes of head, then the mean colours of ever finer grids.

    A picture whose first pixel is black has no face; who is in it is its second pixel.
    """

    @staticmethod
    def encode(
        pixels: Any,
        *,
        quality: int = 75,
        max_bytes: int | None = None,
        layers: str = "full",
        no_face: str = "error",
        aligned: bool = False,
        tune: str = "fidelity",
    ) -> bytes:
        assert no_face == "encode" and tune in encoder.TUNES
        height, width = pixels.shape[:2]
        face = int(pixels[0, 0].any())
        head = bytes([width, height, face, *pixels[0, 1], *bytes(HEAD - 6)])
        levels = len(LEVELS) if max_bytes else 1 + round(quality / 25)
        grids = LEVELS[:levels] if layers == "full" else ()
        whole = head + b"".join(
            np.asarray(Image.fromarray(pixels).resize((n, n), Image.Resampling.BOX)).tobytes() for n in grids
        )
        return Toy.truncate(whole, max_bytes) if max_bytes else whole

    @staticmethod
    def encode_within(pixels: Any, sizes: Sequence[int], *, no_face: str) -> Iterator[bytes]:
        return (Toy.encode(pixels, max_bytes=size, no_face=no_face) for size in sizes)

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
    def features(data: bytes) -> identity.Features:
        width, _, count = data[:3]
        rows = np.repeat(np.frombuffer(data, np.uint8, 3, 3)[None].astype(np.float32), count, 0)
        rows = np.pad(rows + 1, ((0, 0), (0, 256 - 3)))
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        points = np.repeat(faces.TEMPLATE[None] * width / 112, count, 0)
        boxes = np.full((count, 4), [8.0, 8.0, width - 8.0, width - 8.0])
        return identity.Features(unit, boxes.astype(np.float32), points.astype(np.float32), "toy")

    @staticmethod
    def embed(pixels: Any, *, aligned: bool = False) -> Any:
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
    def info(data: bytes) -> account.Info:
        parts = (account.Part("header", 0, 2), account.Part("identity codes", 2, 4))
        return account.Info(1, data[0], data[1], "toy", data[2], parts, ())


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("decode", "truncate", "strip"):
        monkeypatch.setattr(codec, name, getattr(Toy, name))
    monkeypatch.setattr(identity, "features", Toy.features)
    monkeypatch.setattr(account, "info", Toy.info)
    for name in ("encode", "encode_within", "embed"):
        monkeypatch.setattr(encoder, name, getattr(Toy, name))
    monkeypatch.setattr(measure_options, "KINDS", ())


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


# verification of the toy


@pytest.fixture
def album_pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.csv"
    rows = [f"{name}_0001,{name}_0002,1" for name in ("Ada", "Bo_Li", "Cy")]
    rows += ["Ada_0001,Bo_Li_0001,0", "Bo_Li_0002,Cy_0002,0", "Cy_0003,Ada_0002,0"]
    file.write_text("\n".join(["a,b,same", *rows]) + "\n")
    return file


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    return judge_of_colours(tmp_path / "judge.ts")


def test_verify_tells_people_apart(toy: None, album: Path, album_pairs: Path) -> None:
    text = ok("eval", "verify", "--pairs", album_pairs, "--images", album).stdout
    assert "6 pairs of 7 pictures; 1 without a face found" in text
    assert "identity codes of the file, 1 missing" in text
    result = json.loads(ok("eval", "verify", "--pairs", album_pairs, "--images", album, "--json").stdout)
    assert result["without_face"] == ["Cy_0003"]
    assert result["identity_bytes"] == {"mean": 4, "max": 4}
    assert result["base_bytes"] == {"mean": HEAD, "max": HEAD}
    by_float, by_file = result["rows"]
    assert by_float["from"] == "photograph" and by_file["from"] == "identity codes of the file"
    assert by_float["mean_cosine"] is None and by_file["mean_cosine"] == pytest.approx(1)
    # Every pair that has two faces is judged rightly; the one without is an error in its fold.
    assert 0.5 < by_float["accuracy"] < 1
    assert by_float["true_accept_rates"]["0.001"] is None and by_float["missing"] == 1
    assert result["needed"] is None and len(result["codes"]) == 6


def test_verify_by_a_judge(toy: None, album: Path, album_pairs: Path, judge: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--pairs", album_pairs, "--images", album, "--judge", judge, "--peers", "jpeg", "--out", out]
    budgets = ["--bytes", "900", "--bytes", "10", "--bytes", "23"]
    text = ok("eval", "verify", *arguments, *budgets).stdout
    assert "Bytes needed for an accuracy" in text and "fsc, 900 bytes" in text
    result = json.loads((out / "verify.json").read_text())
    names = ["judge, original", *(f"{codec}, {n} bytes" for codec in ("fsc", "jpeg") for n in (10, 23, 900))]
    assert [row["name"] for row in result["rows"][2:]] == names
    original, nothing, flat, fine, *_, jpeg = result["rows"][2:]
    assert original["mean_cosine"] is None and nothing["mean_cosine"] is None
    assert (nothing["accuracy"], nothing["without_file"], nothing["bytes"]) == (0, 7, None)
    assert 0.9 < flat["mean_cosine"] < fine["mean_cosine"] < 1 + 1e-9
    assert flat["psnr"] < fine["psnr"] and flat["bytes"] == 23
    assert jpeg["bytes"] <= 900 and jpeg["without_file"] == 0 and jpeg["mean_cosine"] > 0.9
    # All are told apart at the smallest file of either that there is.
    assert result["needed"]["accuracies"] == [0.9, 0.95, 0.97, 0.98, 0.99]
    assert {cell["value"] for cell in result["needed"]["bytes"]["fsc"]} <= {"below", "beyond"}
    rows = (out / "verify.csv").read_text().splitlines()
    assert rows[0].startswith("id,faces,identity_bytes") and len(rows) == 1 + 7 + 14 + 7
    assert "Verification" in (out / "report.html").read_text()
    known = ok("eval", "verify", *arguments, *budgets)
    assert "7 of them known" in known.stderr and known.stdout == text
    assert json.loads((out / "verify.json").read_text())["rows"] == result["rows"]
    other = fsc("eval", "verify", *arguments, "--bytes", "900")
    assert other.exit_code == 1 and "other options; --force" in other.stderr
    ok("eval", "verify", *arguments, "--bytes", "900", "--force", "--limit", "4")
    limited = json.loads((out / "verify.json").read_text())
    assert limited["pairs"] == 4 and [r["name"] for r in limited["rows"][2:]] == [
        names[0],
        names[3],
        names[6],
    ]


def test_verify_of_chips(
    toy: None,
    album: Path,
    album_pairs: Path,
    judge: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    face = faces.Face(np.array([8.0, 8, 40, 40]), faces.TEMPLATE * SIDE / 112, 1.0)
    monkeypatch.setattr(faces, "find", lambda pixels: [face] if pixels[0, 0].any() else [])
    arguments = ["--pairs", album_pairs, "--images", album, "--judge", judge, "--peers", "webp"]
    result = json.loads(ok("eval", "verify", *arguments, "--chips", "64", "--bytes", "900", "--json").stdout)
    assert result["without_face"] == ["Cy_0003"]
    assert [row["without_file"] for row in result["rows"][3:]] == [1, 1]
    assert all(row["mean_cosine"] > 0.95 for row in result["rows"][3:])
    out = ["--out", tmp_path / "out"]
    ok("eval", "verify", *arguments[:4], *out)
    ok("eval", "verify", *arguments, "--chips", "64", "--bytes", "900", *out)
    ok("eval", "verify", *arguments, "--chips", "64", "--bytes", "900", "--tune", "recognition", *out)
    page = (tmp_path / "out" / "report.html").read_text()
    for heading in ("Verification", "Verification, 64 px", "Verification, 64 px, recognition"):
        assert f"{heading}<" in page
    tuned = json.loads((tmp_path / "out" / "verify-64-recognition.json").read_text())
    assert tuned["options"]["tune"] == "recognition"


def test_verify_by_ourselves_says_so(
    toy: None, album: Path, album_pairs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judges.OwnJudge, "look", lambda self, views: views.mean((1, 2)))
    arguments = ["--pairs", album_pairs, "--images", album, "--judge", "own", "--peers", ""]
    text = ok("eval", "verify", *arguments, "--bytes", "900", "--out", tmp_path / "out").stdout
    assert "no independent witness" in text
    assert "no independent witness" in (tmp_path / "out" / "report.html").read_text()


def test_verify_refuses(toy: None, album: Path, album_pairs: Path, tmp_path: Path) -> None:
    arguments = ["eval", "verify", "--pairs", album_pairs, "--images", album]
    assert fsc(*arguments, "--bytes", "100").exit_code == 2
    no_judge = tmp_path / "judge.ts"
    no_judge.write_bytes(b"no recogniser")
    assert fsc(*arguments, "--judge", no_judge).exit_code == WeightsError.exit_code
    assert fsc(*arguments, "--judge", tmp_path / "absent.ts").exit_code == 1
    (album / "Ada" / "Ada_0002.png").unlink()
    missing = fsc(*arguments)
    assert missing.exit_code == 1
    assert "1 picture of the pairs" in missing.stderr and "Ada_0002" in missing.stderr


def test_the_face_that_a_picture_is_of() -> None:
    large_aside = [0.0, 0, 40, 40]
    central = [80.0, 80, 116, 116]
    pixels = np.zeros((200, 200, 3), np.uint8)
    assert looks.foremost(np.array([large_aside, central]), pixels) == 1
    assert looks.foremost(np.array([central, [60.0, 60, 140, 140]]), pixels) == 1


def test_robust(toy: None, album: Path, album_pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["eval", "robust", "--pairs", album_pairs, "--images", album, "--out", out]
    assert "turned by 20 degrees, codes" in ok(*arguments).stdout
    result = json.loads((out / "robust.json").read_text())
    assert [row["kind"] for row in result["rows"]] == ["none", *degrade.KINDS]
    assert result["rows"][0]["codes"]["mean_cosine"] == pytest.approx(1)
    dark = result["rows"][3]
    assert dark["kind"] == "dark" and dark["float"]["missing"] == 1 and dark["float"]["mean_cosine"] < 1
    rows = (out / "robust.csv").read_text().splitlines()
    assert len(rows) == 1 + 6 * 5 and rows[1].startswith("Ada_0001,blurred,")
    assert "Bad photographs" in (out / "report.html").read_text()


# groups and the 1,024 bytes


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    """Fifty pictures of two kinds; two of one kind are of one person, as far as codes can tell."""
    folder = tmp_path / "crowd"
    folder.mkdir()
    lines = ["id,kind,age"]
    for i in range(50):
        (folder / f"{i}.png").write_bytes(png(portrait(i, 5 * (0 if i == 2 else i))))
        lines.append(f"{i},{'various' if i % 2 else 'alike'},{i}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_groups(toy: None, crowd: Path, judge: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["eval", "groups", "--images", crowd, "--judge", judge, "--peers", "webp", "--out", out]
    arguments += ["--bytes", "23", "--bytes", "400"]
    text = ok(*arguments, "--labels", "kind").stdout
    assert "By codes, threshold" in text and "fsc, 400 bytes" in text
    result = json.loads((out / "groups-kind.json").read_text())
    assert result["groups"] == {"alike": 25, "various": 25}
    by_codes = result["by"]["codes"]
    first = by_codes["rows"][0]["groups"]
    # Of 1,225 pairs one may pass.
    assert first["alike"]["false_match_rate"] == pytest.approx(1 / 300)
    assert first["various"]["false_match_rate"] == 0
    assert first["alike"]["false_non_match_rate"] == 0 and first["alike"]["mean_cosine"] == pytest.approx(1)
    judged = {row["name"]: row for row in result["by"]["judge"]["rows"]}
    assert judged["fsc, 23 bytes"]["groups"]["alike"]["mean_cosine"] < 1 + 1e-6
    assert judged["webp, 23 bytes"]["groups"]["alike"] == {
        "false_match_rate": 0,
        "false_non_match_rate": 1,
        "mean_cosine": None,
        "missing": 25,
    }
    gap = judged["fsc, 400 bytes"]["largest_gap"]["mean_cosine"]
    figures = judged["fsc, 400 bytes"]["groups"]
    assert gap == pytest.approx(abs(figures["alike"]["mean_cosine"] - figures["various"]["mean_cosine"]))
    # The pictures are the same for another column: none is measured again.
    again = ok(*arguments, "--labels", "age", "--bands", "10")
    assert "50 of them known" in again.stderr
    assert list(json.loads((out / "groups-age.json").read_text())["groups"]) == ["10 and above", "below 10"]
    page = (out / "report.html").read_text()
    assert "Groups: kind" in page and "Groups: age" in page
    rows = (out / "groups-kind.csv").read_text().splitlines()
    assert rows[0] == "by,version,group,false_match_rate,false_non_match_rate,mean_cosine,missing"
    assert len(rows) == 1 + 2 * (6 + 5)


def test_groups_refuses(toy: None, album: Path, crowd: Path) -> None:
    arguments = ["eval", "groups", "--images", crowd, "--labels"]
    assert "no picture has a label 'skin'; there are age, id, kind, source" in fsc(*arguments, "skin").stderr
    assert fsc(*arguments, "kind", "--bytes", "100").exit_code == 2
    assert fsc(*arguments, "age", "--bands", "x").exit_code == 2
    few = ok("eval", "groups", "--images", album, "--labels", "source").stdout
    assert "Too few pairs of pictures" in few
    (crowd / "labels.csv").write_text("name\n1\n")
    assert "has no column id" in fsc(*arguments, "kind").stderr


def test_faces_in_1024_bytes(toy: None, album: Path, album_pairs: Path, judge: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["eval", "faces1024", "--images", album, "--peers", "jpeg", "--bytes", "800"]
    assert "800 bytes" in ok(*arguments).stdout
    text = ok(*arguments, "--judge", judge, "--pairs", album_pairs, "--out", out).stdout
    assert "cosine" in text
    result = json.loads((out / "faces1024.json").read_text())
    ours, jpeg = result["rows"]
    assert ours["variants"] == {"full size, colour": 7} and ours["bytes"] <= 800
    assert sum(jpeg["variants"].values()) == 7 and len(jpeg["variants"]) == len(thousand.VARIANTS)
    assert jpeg["recognition"]["variant"].endswith("colour")
    # The best variant of each picture is at least as good as the plain one.
    records = [json.loads(line)[1] for line in (out / "faces1024.jsonl").read_text().splitlines()[1:]]
    plain = [k["psnr"] for r in records for k in r["looks"] if (k["codec"], k["variant"]) == PLAIN_JPEG]
    assert len(plain) == 7 and jpeg["psnr"] >= np.mean(plain)
    without = json.loads(ok(*arguments, "--judge", judge, "--json").stdout)["rows"][1]["recognition"]
    assert without["accuracy"] is None and 0.9 < without["mean_cosine"] <= 1 + 1e-6
    assert "Faces in 800 bytes" in (out / "report.html").read_text()


def test_faces1024_refuses(album: Path, album_pairs: Path) -> None:
    arguments = ["eval", "faces1024", "--images", album]
    assert fsc(*arguments, "--pairs", album_pairs).exit_code == 2
    assert fsc(*arguments, "--bytes", "8", "--bytes", "9").exit_code == 2


def test_previews(toy: None, album: Path, judge: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["eval", "previews", "--images", album, "--bytes", "19", "--bytes", "68", "--bytes", "23"]
    text = ok(*arguments, "--judge", judge, "--out", out).stdout
    assert "7 pictures, 1 without a face found" in text
    none, flat, fine = json.loads((out / "previews.json").read_text())["rows"]
    assert none == {"budget": 19, "pictures": 0} | dict.fromkeys(["bytes", "psnr", "face_psnr", "cosine"])
    assert (flat["pictures"], flat["bytes"], fine["bytes"]) == (6, 23, 68)
    for key in ("psnr", "face_psnr", "cosine"):
        assert fine[key] > flat[key]
    # Of a face that fills the picture, little lies outside of the recognition frame.
    original = pictures.open_pictures(album)[0].pixels()
    decoded = Toy.decode(Toy.encode(original, no_face="encode")[:68]).pixels
    seen = looks.see(pictures.open_pictures(album)[0], plan=looks.Plan(None, (68,)))
    assert seen.looks[0].psnr == quality.psnr(original, decoded)
    matrix = faces.similarity(Toy.features(Toy.encode(original, no_face="encode")).landmarks[0] - 0.5)
    frames = (faces.crop(pixels, matrix, 112) for pixels in (original, decoded))
    assert seen.looks[0].face_psnr == quality.psnr(*frames)
    assert "First bytes" in (out / "report.html").read_text()
    assert "       -" in ok(*arguments).stdout
    ok(*arguments, "--tune", "recognition", "--out", out)  # beside the first one, not over it
    assert (out / "previews-recognition.json").exists()
    assert "First bytes, recognition" in (out / "report.html").read_text()


# rate and distortion of the toy


def test_rd_of_one_picture(toy: None, packed: Path) -> None:
    others = peers.chosen(["jpeg"])
    entry = pictures.open_pictures(packed)[1]
    measured = distortion.measure(entry, others=others, walked=True)
    assert (measured.id, measured.source, measured.width, measured.faces) == ("p1", "odd", SIDE, 1)
    ours = [point for point in measured.points if point.codec == "fsc"]
    assert ours[0].setting == "base" and ours[0].size == HEAD
    by_setting = {point.setting: point for point in ours}
    assert by_setting["quality=100"].size == HEAD + 3 * sum(n * n for n in LEVELS)
    assert by_setting["quality=25"].size < by_setting["quality=50"].size < by_setting["quality=75"].size
    assert by_setting["base"].ms_ssim < by_setting["quality=100"].ms_ssim < 1
    assert sum(point.setting.startswith("size ") for point in ours) == distortion.STEPS - 2
    assert measured.fall is not None and 0 <= measured.fall < 1
    assert distortion.measure(entry).fall is None
    assert distortion.Measured.kept(json.loads(json.dumps(asdict(measured)))) == measured


def measured(name: str, source: str, side: int, ours: float, theirs: float) -> distortion.Measured:
    """Both codecs need so many bytes for 30 dB, and twice as many for 6 dB more."""
    points = [
        distortion.Point(
            codec,
            "base" if codec == "fsc" and q == 24 else f"{q}",
            round(size * 2 ** ((q - 30) / 6)),
            q,
            1 - 10 ** (-q / 20),
            2.0,
            1.0,
        )
        for codec, size in (("fsc", ours), ("jpeg", theirs))
        for q in (24, 30, 36)
    ]
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
    difference = report["groups"]["x 64x64"]["rate_difference"]["psnr"]["jpeg"]
    assert difference["percent"] == pytest.approx(-50, abs=0.1)
    assert (difference["from_db"], difference["to_db"], difference["pictures"]) == (24, 36, 2)
    similar = report["groups"]["x 64x64"]["rate_difference"]["ms_ssim"]["jpeg"]
    assert similar["percent"] == pytest.approx(-50, abs=0.1)
    assert (similar["from_db"], similar["to_db"]) == (pytest.approx(12), pytest.approx(18))
    base = everything["curves"]["fsc"][0]
    assert base == {"setting": "base", "bytes": 400, "psnr": 24, "ms_ssim": pytest.approx(12)}
    plotted = everything["plotted"]["psnr"]
    assert plotted["decibels"] == list(range(24, 37)) and set(plotted["pictures"]) == {3}
    assert [plotted["bytes"][name][6] for name in ("fsc", "jpeg")] == pytest.approx([800, 1200])
    assert everything["milliseconds"]["jpeg"] == {"encode": 2, "decode": 1}
    assert report["largest_fall"] == {"pictures": 0, "stride": 16, "decibels": None}


def test_a_psnr_that_one_codec_misses_is_not_compared_on_that_picture() -> None:
    points = [p for p in measured("d", "x", 64, 100, 100).points if p.codec == "fsc" and p.psnr < 26]
    points += [replace(p, codec="jpeg") for p in points]
    blurred = distortion.Measured("d", "x", 64, 64, 0, tuple(points), 0.25)
    group = distortion.report([measured("a", "x", 64, 400, 800), blurred], ["jpeg"])["groups"]["all"]
    assert group["compared"] == [1] * len(distortion.TARGETS)
    assert group["bytes"]["fsc"][2] == pytest.approx(400)
    assert group["plotted"]["psnr"]["bytes"] == {"fsc": [pytest.approx(125)], "jpeg": [pytest.approx(225)]}
    report = distortion.report([blurred], [])
    assert report["without_face"] == 1 and report["groups"]["all"]["bytes"]["fsc"] == [None] * 5
    assert report["largest_fall"]["decibels"] == 0.25


def test_rd_command(toy: None, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "report" / "today"
    arguments = ["eval", "rd", "--images", packed, "--peers", "jpeg,webp", "--out", out]
    text = ok(*arguments, "--limit", "4", "--walk", "1").stdout
    heads = "26 dB | 28 dB | 30 dB | 32 dB | 34 dB | our rate | by MS-SSIM |"
    assert f"| all, 4 pictures | {heads}" in text
    assert "| JPEG |" in text and "| AVIF |" not in text
    assert "over 1 picture: 0." in text
    rows = (out / "rd.csv").read_text().splitlines()
    assert rows[0] == ("id,source,width,height,faces,codec,setting,bytes,psnr,ms_ssim,encode_ms,decode_ms")
    assert {row.split(",")[0] for row in rows[1:]} == {"p0", "p1", "p2", "p3"}
    kept = json.loads((out / "rd.json").read_text())
    assert kept["pictures"] == 4 and kept["images"] == str(packed)
    assert {"date", "machine", "versions", "command", "weights"} <= kept.keys()
    assert "Rate and distortion" in (out / "report.html").read_text()
    shown = json.loads((out / "examples.json").read_text())
    assert [row["id"] for row in shown["rows"]] == [f"p{i // 2}" for i in range(8)]
    assert all(
        cell["bytes"] <= row["budget"] for row in shown["rows"] for cell in row["codecs"].values() if cell
    )
    frames = shown["slider"]["frames"]
    assert [frame["bytes"] for frame in frames] == sorted({frame["bytes"] for frame in frames})
    for frame in frames:
        with Image.open(out / frame["file"]) as image:
            assert image.size == (SIDE, SIDE)
    # A rerun measures only what is new: here the last picture, and the one that was walked.
    again = ok(*arguments)
    assert "5 pictures, 3 of them known" in again.stderr
    more = (out / "rd.csv").read_text().splitlines()
    without_times = [row.rsplit(",", 2)[0] for row in rows]
    assert set(without_times) < {row.rsplit(",", 2)[0] for row in more}
    other = fsc(*arguments[:-4], "--peers", "jpeg", "--out", out)
    assert other.exit_code == 1 and "other options; --force" in other.stderr
    document = json.loads(ok(*arguments, "--limit", "4", "--force", "--json").stdout)
    curves = {name: group["curves"] for name, group in kept["groups"].items()}
    assert {name: group["curves"] for name, group in document["groups"].items()} == curves
    assert document["largest_fall"]["decibels"] is None


def test_rd_beside_a_codec_of_two_commands(toy: None, packed: Path, tmp_path: Path) -> None:
    copying = f"{sys.executable} -c 'import shutil, sys; shutil.copy(*sys.argv[1:3])'"
    text = f"png={copying} {{input}} {{output}} {{quality:1..2}} ;; {copying} {{input}} {{output}}"
    arguments = ["eval", "rd", "--images", packed, "--limit", "1", "--peers", "", "--external", text]
    result = json.loads(ok(*arguments, "--json").stdout)
    assert result["titles"] == {"fsc": "fsc", "png": "png"}
    assert [point["psnr"] for point in result["groups"]["all"]["curves"]["png"]] == [None, None]


def test_rd_refuses(toy: None, packed: Path, tmp_path: Path) -> None:
    assert "gif is no format" in fsc("eval", "rd", "--images", packed, "--peers", "gif").stderr
    assert fsc("eval", "rd", "--images", packed, "--limit", "0").exit_code == 2
    assert fsc("eval", "rd", "--images", packed.parent / "none").exit_code == 1
    assert tuple(FORMATS) == measure_options.PEERS
    (tmp_path / "rd.csv").write_text("mine")
    kept = fsc("eval", "rd", "--images", packed, "--limit", "1", "--peers", "", "--out", tmp_path)
    assert kept.exit_code == 1 and "--force" in kept.stderr
    assert (tmp_path / "rd.csv").read_text() == "mine"
    none = fsc("eval", "rd", "--images", packed, "--peers", "", "--neural", tmp_path / "rd.csv")
    assert none.exit_code == 1 and "no checkpoint of fsc train hyperprior" in none.stderr


def test_a_damaged_summary(tmp_path: Path) -> None:
    (tmp_path / "rd.json").write_text("{")
    with pytest.raises(FscError, match="no summary"):
        report.page(tmp_path)


# faces


def test_the_detector_against_labels(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = (pictures.open_pictures(packed)[0].labels or ())[0]
    shifted = faces.Face(label.box, label.landmarks + np.array([1.5, 0]), 0.9)
    larger = faces.Face(np.array([-30.0, -30.0, 60.0, 60.0]), label.landmarks, 0.5)
    answers = iter([[shifted], [], [larger, shifted], [larger], [shifted]])
    monkeypatch.setattr(faces, "find", lambda pixels: next(answers))
    monkeypatch.setattr(measure_options, "KINDS", ())
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
