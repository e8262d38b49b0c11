"""Rate and distortion of this codec and of other formats, picture by picture."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facecodec import account, codec, encoder
from facecodec.evaluation import peers, quality, rates, tables
from facecodec.evaluation.peers import OURS, File, Peer
from facecodec.evaluation.pictures import Entry

Pixels = npt.NDArray[np.uint8]

STEPS = 16
"""Sizes of files, from the base layer alone to that of all refinements."""

QUALITIES = (25, 50, 75, 90)
TARGETS = (26, 28, 30, 32, 34)
MOST = 0.9
"""The share of the pictures that stands for all of them in a plot."""
STRIDE = 16
"""Bytes between the cuts that look for a fall in quality."""

METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}
"""In dB both: what curves and rate differences are drawn over."""


@dataclass(frozen=True)
class Point:
    """One whole file: the ``setting`` that made it, its ``size`` in bytes, ``psnr`` in dB, ``ms_ssim`` 0..1.

    Times are of the processor (of the clock for external commands); of files within a size, that of all.
    """

    codec: str
    setting: str
    size: int
    psnr: float
    ms_ssim: float
    encode_ms: float
    decode_ms: float

    def decibels(self, metric: str) -> float:
        """Return one of METRICS in dB."""
        return self.psnr if metric == "psnr" else quality.decibels(self.ms_ssim)


@dataclass(frozen=True)
class Measured:
    """All files of one picture; ``fall`` is the largest fall in dB along our stream, None if not walked."""

    id: str
    source: str
    width: int
    height: int
    faces: int
    points: tuple[Point, ...]
    fall: float | None

    @classmethod
    def kept(cls, record: dict[str, Any]) -> Measured:
        """Return what a journal kept of one."""
        return cls(**record | {"points": tuple(Point(**point) for point in record["points"])})

    def curve(self, name: str, metric: str = "psnr") -> rates.Curve:
        """Return bytes against quality of one codec."""
        return rates.curve((p.size, p.decibels(metric)) for p in self.points if p.codec == name)


def measure(entry: Entry, *, others: Sequence[Peer] = (), walked: bool = False) -> Measured:
    """Encode and decode one picture by this codec and by ``others``; ``walked`` looks for falls."""
    pixels = entry.pixels()
    full, spent = _encoded(pixels, 100)
    points = [_point(OURS, file, pixels) for file in _ours(full, spent, pixels)]
    for peer in others:
        points += [_point(peer.name, file, pixels) for file in peers.sweep(peer, pixels)]
    height, width = pixels.shape[:2]
    fall = rates.largest_fall(along(full, pixels)) if walked else None
    return Measured(entry.id, entry.source, width, height, account.info(full).faces, tuple(points), fall)


def _point(name: str, file: File, pixels: Pixels) -> Point:
    psnr, ms_ssim = quality.psnr(pixels, file.pixels), quality.ms_ssim(pixels, file.pixels)
    return Point(
        name, file.setting, file.size, psnr, ms_ssim, round(file.encode_ms, 3), round(file.decode_ms, 3)
    )


def _encoded(pixels: Pixels, quality: int) -> tuple[bytes, float]:
    start = time.process_time()
    data = encoder.encode(pixels, quality=quality, no_face="encode")
    return data, 1000 * (time.process_time() - start)


def _ours(full: bytes, spent: float, pixels: Pixels) -> Iterator[File]:
    base = codec.strip(full, "base")
    yield _decoded("base", base, spent)
    sizes = np.geomspace(len(base), len(full), STEPS).round().astype(int).tolist()[1:-1]
    for number, data in enumerate(encoder.encode_within(pixels, sizes, no_face="encode"), 1):
        yield _decoded(f"size {number}", data, spent)
    yield _decoded("quality=100", full, spent)
    for value in QUALITIES:
        yield _decoded(f"quality={value}", *_encoded(pixels, value))


def _decoded(setting: str, data: bytes, spent: float) -> File:
    start = time.process_time()
    pixels = codec.decode(data).pixels
    return File(setting, len(data), pixels, spent, 1000 * (time.process_time() - start))


def along(data: bytes, pixels: Pixels, stride: int = STRIDE) -> Iterator[float]:
    """Yield the PSNR of a file cut at every ``stride`` bytes from its base layer to its end."""
    for size in (*range(len(codec.strip(data, "base")), len(data), stride), len(data)):
        yield quality.psnr(pixels, codec.decode(codec.truncate(data, size)).pixels)


def report(measured: Sequence[Measured], names: Sequence[str]) -> dict[str, Any]:
    """Return the figures over all pictures, and by size and source, as numbers and text for JSON.

    ``names`` are those of the other codecs.
    """
    groups: dict[str, list[Measured]] = {"all": list(measured)}
    keys: tuple[Callable[[Measured], str], ...] = (
        lambda m: f"{m.width}x{m.height}",
        lambda m: f"{m.source} {m.width}x{m.height}",
    )
    for key in keys:
        parts: dict[str, list[Measured]] = {}
        for picture in measured:
            parts.setdefault(key(picture), []).append(picture)
        known = list(groups.values())
        groups |= {name: part for name, part in sorted(parts.items()) if part not in known}
    falls = [m.fall for m in measured if m.fall is not None]
    return {
        "pictures": len(measured),
        "without_face": sum(not m.faces for m in measured),
        "targets": list(TARGETS),
        "groups": {name: _group(part, [OURS, *names]) for name, part in groups.items()},
        "largest_fall": {"pictures": len(falls), "stride": STRIDE, "decibels": max(falls, default=None)},
    }


def _group(measured: Sequence[Measured], names: Sequence[str]) -> dict[str, Any]:
    curves = {
        metric: {name: [m.curve(name, metric) for m in measured] for name in names} for metric in METRICS
    }
    compared, needed = _needed(curves["psnr"], TARGETS)
    return {
        "pictures": len(measured),
        "compared": compared,
        "bytes": needed,
        "rate_difference": {
            metric: {name: _difference(of[OURS], of[name]) for name in names[1:]}
            for metric, of in curves.items()
        },
        "plotted": {metric: _plotted(of) for metric, of in curves.items()},
        "curves": {name: _means(measured, name) for name in names},
        "milliseconds": {name: _times(measured, name) for name in names},
    }


def _needed(
    curves: Mapping[str, Sequence[rates.Curve]], qualities: Sequence[float]
) -> tuple[list[int], dict[str, list[float | None]]]:
    """Return how many pictures all codecs bring to each quality, and the mean bytes of each for these."""
    sizes = {
        name: np.array([[rates.bytes_for(c, q) for q in qualities] for c in of])
        for name, of in curves.items()
    }
    reached = np.isfinite(np.array(list(sizes.values()))).all(0)
    means = {
        name: [
            float(column[here].mean()) if here.any() else None
            for column, here in zip(of.T, reached.T, strict=True)
        ]
        for name, of in sizes.items()
    }
    return reached.sum(0).tolist(), means


def _plotted(curves: Mapping[str, Sequence[rates.Curve]]) -> dict[str, Any]:
    """Return mean ``bytes`` by codec for each whole dB that all codecs bring MOST of the pictures to.

    None below what the smallest files of a codec mostly have.  A codec without finite qualities is left out.
    """
    finite = {name: [c for c in of if len(c[0])] for name, of in curves.items()}
    finite = {name: of for name, of in finite.items() if of}
    if not finite:
        return {"decibels": [], "pictures": [], "bytes": {}}
    starts = {name: float(np.median([c[1][0] for c in of])) for name, of in finite.items()}
    high = max(c[1][-1] for of in finite.values() for c in of)
    decibels = list(range(math.ceil(min(starts.values())), math.floor(high) + 1))
    counts, means = _needed({name: curves[name] for name in finite}, decibels)
    pictures = len(next(iter(curves.values())))
    shown = [i for i, count in enumerate(counts) if count >= MOST * pictures]
    return {
        "decibels": [decibels[i] for i in shown],
        "pictures": [counts[i] for i in shown],
        "bytes": {
            name: [of[i] if decibels[i] >= starts[name] else None for i in shown]
            for name, of in means.items()
        },
    }


def _difference(ours: Sequence[rates.Curve], theirs: Sequence[rates.Curve]) -> dict[str, Any] | None:
    """Return our mean rate difference in per cent, its mean range in dB, and how many pictures have one."""
    found = [rates.rate_difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    known = np.array([difference for difference in found if difference])
    if not len(known):
        return None
    mean, low, high = known.mean(0)
    return {
        "percent": 100 * math.expm1(mean),
        "from_db": float(low),
        "to_db": float(high),
        "pictures": len(known),
    }


def _means(measured: Sequence[Measured], name: str) -> list[dict[str, Any]]:
    """Return means over the pictures, setting by setting in rising order; infinite dB do not count."""
    settings: dict[str, list[Point]] = {}
    for picture in measured:
        for point in picture.points:
            if point.codec == name:
                settings.setdefault(point.setting, []).append(point)
    means = [
        {
            "setting": setting,
            "bytes": float(np.mean([p.size for p in points])),
            **{metric: _finite_mean([p.decibels(metric) for p in points]) for metric in METRICS},
        }
        for setting, points in settings.items()
    ]
    return sorted(means, key=lambda mean: float(mean["bytes"]))


def _finite_mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _times(measured: Sequence[Measured], name: str) -> dict[str, float]:
    points = [point for picture in measured for point in picture.points if point.codec == name]
    return {
        "encode": float(np.median([point.encode_ms for point in points])),
        "decode": float(np.median([point.decode_ms for point in points])),
    }


def table(measured: Sequence[Measured]) -> str:
    """Return every file of every picture as CSV."""
    head = ["id", "source", "width", "height", "faces", "codec", "setting", "bytes", "psnr", "ms_ssim"]
    rows = []
    for m in measured:
        for p in m.points:
            picture = (m.id, m.source, m.width, m.height, m.faces)
            figures = (p.size, f"{p.psnr:.4f}", f"{p.ms_ssim:.6f}", p.encode_ms, p.decode_ms)
            rows.append([*picture, p.codec, p.setting, *figures])
    return tables.written([*head, "encode_ms", "decode_ms"], rows)
