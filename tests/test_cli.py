from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import facecodec
from facecodec import cli, images
from facecodec.errors import CorruptError, FscError, NoFaceError, TruncatedError, WeightsError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
EMBEDDINGS = np.eye(2, 4, dtype=np.float32) * np.float32(0.1)


@dataclass(frozen=True)
class Part:
    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Info:
    version: int
    width: int
    height: int
    model: str
    faces: int
    parts: tuple[Part, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    similarity: float
    same: bool
    threshold: float
    false_match_rate: float


class Codec:
    """Stands in for the codec: writes down its calls, and fails on the bytes b"bad"."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: BaseException | None = None
        self.models = {b"other": "2222"}

    def _called(self, name: str, data: bytes, *rest: Any) -> None:
        self.calls.append((name, *rest))
        if self.error:
            raise self.error
        if data == b"bad":
            raise CorruptError("the Magic is wrong")

    def encode(self, image: np.ndarray, **options: Any) -> bytes:
        self.pixels = image
        self._called("encode", b"", options)
        return b"\xf5SC coded"

    def decode(self, data: bytes, *, layers: str = "full") -> Any:
        self._called("decode", data, layers)
        return SimpleNamespace(pixels=PIXELS, notes=("it is cut short",) if data == b"cut" else ())

    def features(self, data: bytes) -> Any:
        self._called("features", data)
        boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8.5]])
        model = self.models.get(data, "1111")
        return SimpleNamespace(embeddings=EMBEDDINGS, boxes=boxes, landmarks=np.ones((2, 5, 2)), model=model)

    def truncate(self, data: bytes, max_bytes: int) -> bytes:
        self._called("truncate", data)
        return data[:max_bytes]

    def strip(self, data: bytes, keep: str) -> bytes:
        self._called("strip", data, keep)
        return keep.encode()

    def info(self, data: bytes) -> Info:
        self._called("info", data)
        parts = (Part("header", 0, 16), Part("identity codes", 16, len(data) - 16))
        return Info(1, 24, 20, "1111", 1, parts, ("it is cut short",))

    def verify(self, data: bytes) -> list[str]:
        self._called("verify", data)
        return ["the checksum of the enhancement is wrong"] if data == b"unsound" else []

    def compare(self, a: bytes, b: bytes) -> Comparison:
        self._called("compare", a, b)
        return Comparison(0.75, True, 0.31, 0.001)


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Codec:
    fake = Codec()
    for name in ("encode", "decode", "features", "truncate", "strip", "info", "verify", "compare"):
        monkeypatch.setattr(facecodec, name, getattr(fake, name), raising=False)
    return fake


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(images.to_bytes(PIXELS))
    Path("photo.fsc").write_bytes(b"\xf5SC and twenty more bytes")
    Path("bad.fsc").write_bytes(b"bad")
    Path("cut.fsc").write_bytes(b"cut")
    return tmp_path


def fsc(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli.main, arguments, input=stdin, prog_name="fsc")


def ok(*arguments: str, stdin: bytes | None = None) -> Result:
    result = fsc(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def fails(code: int, *arguments: str, stdin: bytes | None = None) -> str:
    result = fsc(*arguments, stdin=stdin)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def commands(
    command: click.Command = cli.main, *names: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None and child.name == name
            yield from commands(child, *names, name)
    else:
        yield names, command


# encode


def test_encode_writes_beside_the_picture(codec: Codec, here: Path) -> None:
    result = ok("encode", "photo.png", "--force")
    assert Path("photo.fsc").read_bytes() == b"\xf5SC coded"
    assert result.stdout == ""
    assert result.stderr == "fsc: photo.fsc: 9 bytes\n"
    assert np.array_equal(codec.pixels, PIXELS)
    assert codec.calls == [
        ("encode", {"layers": "full", "no_face": "error", "aligned": False, "tune": "fidelity"})
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--quality", "0"], {"quality": 0}),
        (["--max-bytes", "900"], {"max_bytes": 900}),
        (["--min-psnr", "31.5"], {"min_psnr": 31.5}),
        (["--min-similarity", "0.8"], {"min_similarity": 0.8}),
        (["--lossless"], {"lossless": True}),
        (["--aligned", "--layers", "base"], {"aligned": True, "layers": "base"}),
        (["--no-face", "encode"], {"no_face": "encode"}),
        (["--tune", "recognition"], {"tune": "recognition"}),
        (["--no-face", "skip"], {"no_face": "error"}),
    ],
)
def test_encode_passes_its_options_on(
    codec: Codec, here: Path, options: list[str], expected: dict[str, Any]
) -> None:
    ok("encode", "photo.png", "-o", "out.fsc", *options)
    defaults = {"layers": "full", "no_face": "error", "aligned": False, "tune": "fidelity"}
    assert codec.calls == [("encode", {**defaults, **expected})]


@pytest.mark.parametrize(
    "options",
    [
        ["--quality", "101"],
        ["--quality", "fine"],
        ["--max-bytes", "0"],
        ["--min-psnr", "nan"],
        ["--min-psnr", "inf"],
        ["--min-similarity", "1.1"],
        ["--quality", "3", "--lossless"],
        ["--quality", "0", "--max-bytes", "100"],
        ["--lossless", "--layers", "base"],
        ["--layers", "none"],
        ["--no-face", "maybe"],
        ["--nonsense"],
    ],
)
def test_encode_refuses_wrong_options(codec: Codec, here: Path, options: list[str]) -> None:
    assert "Usage: fsc encode" in fails(2, "encode", "photo.png", "-o", "out.fsc", *options)
    assert codec.calls == []
    assert not Path("out.fsc").exists()


def test_encode_between_pipes(codec: Codec, here: Path) -> None:
    result = ok("encode", "-", stdin=Path("photo.png").read_bytes())
    assert result.stdout_bytes == b"\xf5SC coded"
    assert result.stderr == ""


def test_encode_says_what_it_does_to_the_picture(codec: Codec, here: Path) -> None:
    clear = np.dstack([PIXELS, np.zeros((20, 24), np.uint8)])
    from PIL import Image

    Image.fromarray(clear).save("clear.png")
    assert "clear.png: its transparency is composited on white" in ok("encode", "clear.png").stderr
    assert (codec.pixels == 255).all()


def test_no_face(codec: Codec, here: Path) -> None:
    codec.error = NoFaceError("no face was found; --no-face encode encodes the picture all the same")
    assert "photo.png: no face was found" in fails(3, "encode", "photo.png", "-o", "out.fsc")
    assert "nothing written" in ok("encode", "photo.png", "-o", "out.fsc", "--no-face", "skip").stderr
    assert not Path("out.fsc").exists()


def test_pictures_that_cannot_be_read(codec: Codec, here: Path) -> None:
    assert "absent.png cannot be read: No such file" in fails(1, "encode", "absent.png")
    assert "photo.fsc: an .fsc file already" in fails(1, "encode", "photo.fsc", "-o", "out.fsc")
    assert "the picture: empty" in fails(1, "encode", "-", stdin=b"")


def test_nothing_is_overwritten_and_nothing_done_before_that_is_known(codec: Codec, here: Path) -> None:
    for arguments in (
        ["encode", "photo.png"],
        ["decode", "photo.fsc"],
        ["truncate", "photo.fsc", "--max-bytes", "9", "-o", "cut.fsc"],
        ["strip", "photo.fsc", "--keep", "base", "-o", "cut.fsc"],
        ["features", "photo.fsc", "-o", "cut.fsc"],
    ):
        assert "already there; --force overwrites it" in fails(1, *arguments)
    assert codec.calls == []
    assert Path("cut.fsc").read_bytes() == b"cut"


# decode, truncate, strip


@pytest.mark.parametrize("layers", ["full", "base"])
def test_decode(codec: Codec, here: Path, layers: str) -> None:
    ok("decode", "photo.fsc", "-o", "out.bmp", "--layers", layers)
    assert codec.calls == [("decode", layers)]
    assert np.array_equal(images.load("out.bmp").pixels, PIXELS)
    result = ok("decode", "-", "--layers", layers, stdin=b"cut")
    assert np.array_equal(images.load(result.stdout_bytes).pixels, PIXELS)
    assert result.stderr == "fsc: standard input: it is cut short\n"


def test_decode_writes_a_png_beside_the_file(codec: Codec, here: Path) -> None:
    ok("decode", "cut.fsc")
    assert Path("cut.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".npy", ".json", ".csv"])
def test_decode_to_features(codec: Codec, here: Path, suffix: str) -> None:
    ok("decode", "photo.fsc", "--layers", "base", "-o", f"out{suffix}")
    ok("features", "photo.fsc", "-o", f"same{suffix}")
    assert Path(f"out{suffix}").read_bytes() == Path(f"same{suffix}").read_bytes()
    assert {call[0] for call in codec.calls} == {"features"}


def test_decode_to_an_unknown_kind_of_file(codec: Codec, here: Path) -> None:
    assert "'.gif'" in fails(1, "decode", "photo.fsc", "-o", "out.gif")
    assert not Path("out.gif").exists()


def test_truncate_and_strip(codec: Codec, here: Path) -> None:
    assert ok("truncate", "photo.fsc", "--max-bytes", "5").stdout_bytes == b"\xf5SC a"
    ok("truncate", "-", "--max-bytes", "2", "-o", "out.fsc", stdin=b"bytes")
    assert Path("out.fsc").read_bytes() == b"by"
    assert ok("strip", "photo.fsc", "--keep", "features").stdout == "features"
    assert "--keep" in fails(2, "strip", "photo.fsc")
    assert "--max-bytes" in fails(2, "truncate", "photo.fsc")


# features, compare, info, verify


def test_features_as_json(codec: Codec, here: Path) -> None:
    rows = json.loads(ok("features", "photo.fsc", "cut.fsc").stdout)
    assert [(row["file"], row["face"]) for row in rows] == [
        ("photo.fsc", 0),
        ("photo.fsc", 1),
        ("cut.fsc", 0),
        ("cut.fsc", 1),
    ]
    assert rows[1]["box"] == [5, 6, 7, 8.5]
    assert rows[1]["landmarks"] == [[1, 1]] * 5
    assert rows[1]["embedding"] == [0, 0.1, 0, 0]
    assert rows[1]["model"] == "1111"


def test_features_as_csv(codec: Codec, here: Path) -> None:
    text = ok("features", "photo.fsc", "cut.fsc", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 4
    assert rows[1]["file"] == "photo.fsc"
    assert (
        rows[3] | {"face": "1", "left": "5.0", "bottom": "8.5", "x1": "1.0", "y5": "1.0", "e1": "0.1"}
        == rows[3]
    )


def test_features_as_npy(codec: Codec, here: Path) -> None:
    raw = ok("features", "photo.fsc", "cut.fsc", "--format", "npy").stdout_bytes
    array = np.load(io.BytesIO(raw), allow_pickle=False)
    assert array.dtype == np.float32
    assert np.array_equal(array, np.concatenate([EMBEDDINGS, EMBEDDINGS]))
    assert "1111 and 2222" in fails(1, "features", "photo.fsc", "-", "--format", "npy", stdin=b"other")


def test_compare(codec: Codec, here: Path) -> None:
    line = "0.7500  the same person (threshold 0.3100, 0.10% false matches)\n"
    assert ok("compare", "photo.fsc", "-", stdin=b"b").stdout == line
    assert codec.calls == [("compare", b"b")]
    document = json.loads(ok("compare", "photo.fsc", "cut.fsc", "--json").stdout)
    assert document == {"similarity": 0.75, "same": True, "threshold": 0.31, "false_match_rate": 0.001}
    assert "both be standard input" in fails(2, "compare", "-", "-")
    codec.error = FscError("embeddings of the models 1111 and 2222 cannot be compared")
    assert "1111 and 2222" in fails(1, "compare", "photo.fsc", "cut.fsc")


def test_info(codec: Codec, here: Path) -> None:
    result = ok("info", "photo.fsc")
    assert "24x20 pixels, 1 face, 25 bytes" in result.stdout
    assert re.search(r"^ +16 +9  identity codes$", result.stdout, re.MULTILINE)
    assert result.stderr == "fsc: photo.fsc: it is cut short\n"
    document = json.loads(ok("info", "-", "--json", stdin=b"x" * 30).stdout)
    assert sum(part["size"] for part in document["parts"]) == document["bytes"] == 30


def test_verify(codec: Codec, here: Path) -> None:
    assert ok("verify", "photo.fsc", "cut.fsc").stdout == "photo.fsc: ok\ncut.fsc: ok\n"
    result = fsc("verify", "photo.fsc", "bad.fsc", "-", stdin=b"unsound")
    assert result.exit_code == 4
    assert result.stdout.splitlines() == [
        "photo.fsc: ok",
        "bad.fsc: the Magic is wrong",
        "-: the checksum of the enhancement is wrong",
    ]
    result = fsc("verify", "photo.fsc", "bad.fsc", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout) == {"photo.fsc": [], "bad.fsc": ["the Magic is wrong"]}


@pytest.mark.parametrize(
    "command", ["decode", "features", "info", "truncate --max-bytes 9", "strip --keep base"]
)
def test_a_bad_stream_is_named(codec: Codec, here: Path, command: str) -> None:
    assert fails(4, *command.split(), "bad.fsc") == "fsc: bad.fsc: the Magic is wrong\n"
    assert fails(4, *command.split(), "-", stdin=b"bad") == "fsc: standard input: the Magic is wrong\n"
    assert "absent.fsc cannot be read: No such file" in fails(1, *command.split(), "absent.fsc")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TruncatedError("it ends early"), 4),
        (WeightsError("no weights"), 5),
        (FscError("something"), 1),
        (MemoryError(), 1),
        (OSError(28, "No space left on device"), 1),
        (FileExistsError("base-v1 exists; a new training is a new version"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(
    codec: Codec, here: Path, error: BaseException, code: int
) -> None:
    codec.error = error
    assert re.fullmatch(r"\n?fsc: .+\n", fails(code, "decode", "photo.fsc", "-o", "out.png"))
    assert not Path("out.png").exists()


# bench, train


def test_bench(codec: Codec, here: Path) -> None:
    assert re.search(r"^encode +\d+\.\d ms$", ok("bench", "photo.png", "--repeat", "1").stdout, re.MULTILINE)
    report = json.loads(ok("bench", "-", "--json", stdin=Path("photo.png").read_bytes()).stdout)
    assert set(report["milliseconds"]) == {"encode", "decode", "decode base", "features"}
    assert (report["width"], report["height"], report["bytes"]) == (24, 20, 9)
    assert report["peak_memory_bytes"] > 1e6


@pytest.mark.parametrize("network", ["detector", "embedding", "preview", "texture", "hyperprior"])
def test_train_calls_the_trainer(monkeypatch: pytest.MonkeyPatch, here: Path, network: str) -> None:
    calls = []
    trainer = SimpleNamespace(train=lambda **options: calls.append(options))
    monkeypatch.setitem(sys.modules, f"facecodec.training.{network}", trainer)
    Path("runs", network).mkdir(parents=True)
    checkpoint = Path("runs", network, "checkpoint.safetensors")
    checkpoint.write_bytes(b"learnt")
    teacher = ["--teacher", "t.ts"] if network in ("embedding", "preview") else []
    taught = {"teacher": Path("t.ts")} if teacher else {}
    ok("train", network, "--data", "faces", *teacher)
    assert checkpoint.exists()
    ok("train", network, "--data", "faces", "--runs", "runs", "--minutes", "2.5", "--fresh", *teacher)
    assert not checkpoint.exists()
    common = {"data": Path("faces"), "runs": Path("runs"), **taught}
    assert calls == [{**common, "minutes": 60.0}, {**common, "minutes": 2.5}]
    assert "--data" in fails(2, "train", network, *teacher)


def test_train_threads(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    counts: list[int] = []
    monkeypatch.setitem(sys.modules, "facecodec.training.threads", SimpleNamespace(use=counts.append))
    monkeypatch.setitem(sys.modules, "facecodec.training.texture", SimpleNamespace(train=lambda **_: None))
    ok("train", "texture", "--data", "faces", "--threads", "2")
    assert counts == [2]


def test_freeze(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    calls = []
    bridge = SimpleNamespace(freeze=lambda **folders: calls.append(folders))
    monkeypatch.setitem(sys.modules, "facecodec.training.freeze", bridge)
    ok("train", "freeze", "texture", "--data", "faces", "--version", "3", "--weights", "w")
    folders = {"runs": Path("runs"), "weights": Path("w"), "data": Path("faces")}
    assert calls == [{**folders, "network": "texture", "version": 3}]


# help, and a real shell


@pytest.mark.parametrize(("names", "command"), list(commands()), ids=lambda value: str(value))
def test_help_ends_with_two_examples_that_parse(names: tuple[str, ...], command: click.Command) -> None:
    lines = ok(*names, "--help").stdout.rstrip().splitlines()
    assert lines[-3].strip() == "Examples:"
    for line in lines[-2:]:
        calls = [
            part.split() for part in re.split(r"[|>]|  +#", line.strip()) if part.strip().startswith("fsc ")
        ]
        assert list(names) in [call[1 : 1 + len(names)] for call in calls]
        for call in (shlex.split(" ".join(call)) for call in calls):
            node: click.Command | None = cli.main
            rest = call[1:]
            while isinstance(node, click.Group):
                node = node.get_command(click.Context(node), rest.pop(0))
            assert node is not None
            node.make_context(call[1], rest)


def test_help_needs_no_command() -> None:
    assert "encode" in ok("--help").stdout
    assert ok("--version").stdout.startswith("fsc, version ")
    assert "No such command" in fails(2, "nonsense")


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "facecodec", *arguments], capture_output=True, **options)


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
from facecodec.cli import main
try:
    main(["--help"])
except SystemExit as end:
    heavy = {"torch", "cv2", "PIL"} & set(sys.modules)
    sys.exit(end.code or sorted(heavy) or 0)
"""
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL).returncode == 0


def test_a_bad_file_in_a_real_shell(tmp_path: Path) -> None:
    (tmp_path / "not.png").write_bytes(b"no picture")
    result = run("encode", str(tmp_path / "not.png"))
    assert result.returncode == 1
    assert result.stdout == b""
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["not.png"]


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "facecodec", "--help"]
    with os.fdopen(writer, "wb") as closed:
        result = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr == b""


def test_a_full_output_is_said() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "facecodec", "--help"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr == b"fsc: the output: No space left on device\n"


def test_interrupted_in_a_real_shell(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "facecodec", "info", str(tmp_path / "pipe")]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=heard) as process,
        (tmp_path / "pipe").open("wb"),
    ):
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert process.stderr.read().strip() == b"fsc: interrupted"
    assert process.returncode == 130


def test_bytes_are_kept_from_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.fsc").write_bytes(b"bytes")
    main_side, terminal = pty.openpty()
    command = [sys.executable, "-m", "facecodec", "strip", str(tmp_path / "a.fsc"), "--keep", "base"]
    result = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE)
    os.close(terminal)
    os.close(main_side)
    assert result.returncode == 2
    assert b"not for a terminal" in result.stderr
