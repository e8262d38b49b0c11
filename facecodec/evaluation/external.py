"""Codecs of others as commands of yours."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from facecodec import files
from facecodec.errors import FscError

STEPS = 12
"""Settings of an external command that draw its curve."""

PATIENCE = 600
"""Seconds after which an external command is given up."""

DEFAULT_RANGE = (0, 100)

_PLACE = re.compile(r"\{(input|output|quality)(?::(\d+)\.\.(\d+))?\}")


@dataclass(frozen=True)
class External:
    """A codec of two commands, each a tuple of words without any shell between.

    ``{input}``, ``{output}`` and ``{quality}`` (or ``{quality:51..10}``, from the smallest file to the best
    picture) stand for the files and the setting.  Pictures are PNG files; a ``suffix`` right after the coded
    file, as in ``{output}.jxl``, is part of its name.
    """

    name: str
    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    ladder: tuple[int, ...]
    suffix: str = ""

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name

    @property
    def sweep(self) -> tuple[int, ...]:
        """Settings spread over the ladder."""
        at = np.linspace(0, len(self.ladder) - 1, min(STEPS, len(self.ladder))).round().astype(int)
        return tuple(self.ladder[i] for i in at)

    def encode(self, image: Image.Image, setting: int) -> bytes:
        """Return the whole file of a picture in mode RGB or L; raises FscError."""
        with tempfile.TemporaryDirectory() as folder:
            original, coded = Path(folder, "original.png"), Path(folder, "coded")
            image.save(original)
            self._run(self.encoder, original, coded, setting)
            return files.read(coded.with_suffix(self.suffix))

    def decode(self, data: bytes) -> Image.Image:
        """Return the picture of a file in mode RGB; raises FscError."""
        with tempfile.TemporaryDirectory() as folder:
            coded, decoded = Path(folder, "coded"), Path(folder, "decoded.png")
            coded.with_suffix(self.suffix).write_bytes(data)
            self._run(self.decoder, coded, decoded, None)
            try:
                return Image.open(decoded).convert("RGB")
            except OSError as error:
                raise FscError(f"{self.name}: the decoder wrote no picture to {{output}}") from error

    def timed(self) -> float:
        """Return the seconds of the clock that time this codec."""
        return time.perf_counter()

    def _run(self, words: tuple[str, ...], source: Path, target: Path, setting: int | None) -> None:
        values = {"input": str(source), "output": str(target), "quality": str(setting)}
        command = [_PLACE.sub(lambda found: values[found[1]], word) for word in words]
        try:
            subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PATIENCE
            )
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip().splitlines()
            raise FscError(
                f"{self.name}: {command[0]} failed with code {error.returncode}: {said[-1] if said else ''}"
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FscError(f"{self.name}: {command[0]} did not run: {error}") from error


def external(text: str) -> External:
    """Return the codec that ``NAME=ENCODE ;; DECODE`` describes; raises FscError."""
    name, _, commands = (part.strip() for part in text.partition("="))
    try:
        words = [tuple(shlex.split(command)) for command in commands.split(";;")]
    except ValueError as error:
        raise FscError(f"{text!r}: {error}") from error
    if not (re.fullmatch(r"[\w.-]+", name) and len(words) == 2 and all(words)):
        raise FscError(f"{text!r}: an external codec is NAME=ENCODE ;; DECODE")
    for command, needed in zip(words, ({"input", "output", "quality"}, {"input", "output"}), strict=True):
        places = {found[1] for word in command for found in _PLACE.finditer(word)}
        if places != needed:
            wanted = ", ".join(f"{{{place}}}" for place in sorted(needed))
            raise FscError(f"{text!r}: {command[0]} needs {wanted}, each in these words and no other")
    ranges = [found.groups()[1:] for word in words[0] for found in _PLACE.finditer(word) if found[2]]
    first, last = (int(value) for value in ranges[0]) if ranges else DEFAULT_RANGE
    step = 1 if last >= first else -1
    suffix = re.search(r"\{output\}(\.\w+)", " ".join(words[0]))
    return External(
        name, words[0], words[1], tuple(range(first, last + step, step)), suffix[1] if suffix else ""
    )
