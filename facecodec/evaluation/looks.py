"""One photograph through everything: found, embedded, coded, degraded, decoded at chosen sizes, looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from facecodec import account, codec, encoder, faces, identity
from facecodec.errors import FscError
from facecodec.evaluation import degrade, judges, peers, quality
from facecodec.evaluation.peers import AS_IT_IS, OURS, Peer, Variant
from facecodec.evaluation.pictures import Entry

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What to look at: the ``judge`` (a file, or own), the ``budgets`` in bytes of whole files, ``others``.

    Other codecs code each of their ``variants``.  ``chip``: the face is cut out first, this many pixels a
    side; None leaves the photograph.  ``degraded`` names kinds of ``degrade`` whose embeddings are wanted.
    ``tune`` is what our files are tuned for.
    """

    judge: str | None = None
    budgets: tuple[int, ...] = ()
    others: tuple[Peer, ...] = ()
    variants: tuple[Variant, ...] = (AS_IT_IS,)
    chip: int | None = None
    degraded: tuple[str, ...] = ()
    tune: str = "fidelity"


@dataclass(frozen=True, eq=False)
class Look:
    """A decoded picture: the best of a codec within a budget; what the judge makes of it, (D,) or None.

    ``face_psnr`` is that of the recognition frame, 112 pixels a side; None without a face.
    """

    codec: str
    variant: str
    budget: int
    size: int
    psnr: float
    ms_ssim: float
    embedding: Floats | None
    face_psnr: float | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture after all that; embeddings are of the face in question, None where none was found.

    ``embedding`` is the float one and ``coded`` that of the file, (256,); ``degraded`` holds such pairs by
    kind.  ``judged`` (D,) is the judge's of the original.  ``identity_bytes`` and ``base_bytes`` are those of
    the base-only file with its ``faces`` faces.
    """

    id: str
    tags: dict[str, str]
    faces: int
    identity_bytes: int
    base_bytes: int
    embedding: Floats | None = None
    coded: Floats | None = None
    judged: Floats | None = None
    looks: tuple[Look, ...] = ()
    degraded: dict[str, tuple[Floats, Floats] | None] | None = None

    @classmethod
    def kept(cls, record: dict[str, Any]) -> Seen:
        """Return what a journal kept of one."""
        return cls(**record | {"looks": tuple(Look(**look) for look in record["looks"])})

    def look(self, codec: str, budget: int, variant: str = AS_IT_IS.title) -> Look | None:
        """Return how a codec did within a budget, None where it has no file as small."""
        wanted = (codec, budget, variant)
        return next((k for k in self.looks if (k.codec, k.budget, k.variant) == wanted), None)


def see(entry: Entry, *, plan: Plan) -> Seen:
    """Take one picture through a plan; raises FscError."""
    pixels = entry.pixels()
    aligned = plan.chip is not None
    if plan.chip:
        chip = _cut(pixels, plan.chip)
        if chip is None:
            return Seen(entry.id, entry.tags, 0, 0, 0)
        pixels = chip
    base = encoder.encode(pixels, layers="base", no_face="encode", aligned=aligned)
    found = identity.features(base)
    coded = sum(part.size for part in account.info(base).parts if part.name == "identity codes")
    seen = Seen(entry.id, entry.tags, len(found.boxes), coded, len(base))
    versions = _versions(pixels, plan)
    if not len(found.boxes):
        return replace(seen, looks=tuple(look for look, _ in versions))
    row = foremost(found.boxes, pixels)
    face = faces.Face(
        found.boxes[row].astype(np.float64) - 0.5, found.landmarks[row].astype(np.float64) - 0.5, 1.0
    )
    judged = None
    matrix = faces.similarity(face.landmarks)
    frame = faces.crop(pixels, matrix, faces.FRAME)
    looks = [
        replace(look, face_psnr=quality.psnr(frame, faces.crop(decoded, matrix, faces.FRAME)))
        for look, decoded in versions
    ]
    if plan.judge:
        judge = judges.load(plan.judge)
        judged, *others = judges.embed(judge, [pixels, *(decoded for _, decoded in versions)], matrix)
        looks = [replace(look, embedding=e) for look, e in zip(looks, others, strict=True)]
    return replace(
        seen,
        embedding=encoder.embed(pixels, aligned=aligned)[row],
        coded=found.embeddings[row],
        judged=judged,
        looks=tuple(looks),
        degraded={kind: _embeddings(degrade.KINDS[kind](pixels, face)) for kind in plan.degraded},
    )


def foremost(boxes: npt.NDArray[np.floating], pixels: Pixels) -> int:
    """Return which face a picture is of: the largest, less twice its squared distance from the middle."""
    exact = boxes.astype(np.float64)
    area = (exact[:, 2:] - exact[:, :2]).prod(1)
    away = (exact[:, 2:] + exact[:, :2]) / 2 - np.array(pixels.shape[1::-1]) / 2
    return int(np.argmax(area - 2 * (away**2).sum(1)))


def _cut(pixels: Pixels, side: int) -> Pixels | None:
    """Return the recognition frame of the face in question, (side, side, 3), None where no face is found."""
    found = faces.find(pixels)
    if not found:
        return None
    face = found[foremost(np.array([face.box for face in found]) + 0.5, pixels)]
    return faces.crop(pixels, faces.similarity(face.landmarks), side)


def _embeddings(pixels: Pixels) -> tuple[Floats, Floats] | None:
    """Return the float and the decoded embedding of the face in question, None where no face is found."""
    data = encoder.encode(pixels, layers="base", no_face="encode")
    found = identity.features(data)
    if not len(found.boxes):
        return None
    row = foremost(found.boxes, pixels)
    return encoder.embed(pixels)[row], found.embeddings[row]


def _versions(pixels: Pixels, plan: Plan) -> list[tuple[Look, Pixels]]:
    """Return what each codec makes of the picture within each budget."""
    versions = []

    def add(name: str, variant: Variant, budget: int, size: int, decoded: Pixels) -> None:
        psnr, ms_ssim = quality.psnr(pixels, decoded), quality.ms_ssim(pixels, decoded)
        versions.append((Look(name, variant.title, budget, size, psnr, ms_ssim, None), decoded))

    for budget in plan.budgets:
        if short := _ours(pixels, budget, plan):
            add(OURS, AS_IT_IS, budget, len(short), codec.decode(short).pixels)
    for peer in plan.others:
        for variant in plan.variants:
            fitted = peers.fitted(peer, pixels, plan.budgets, variant)
            for budget, file in zip(plan.budgets, fitted, strict=True):
                if file:
                    add(peer.name, variant, budget, *file)
    return versions


def _ours(pixels: Pixels, budget: int, plan: Plan) -> bytes | None:
    """Return our file within a budget, None where not even the faces fit."""
    aligned = plan.chip is not None
    try:
        return encoder.encode(pixels, max_bytes=budget, no_face="encode", aligned=aligned, tune=plan.tune)
    except FscError:
        return None


def matrix(embeddings: Sequence[Floats | None]) -> Floats:
    """Return embeddings (n, D), NaN for those that are missing."""
    width = next((len(e) for e in embeddings if e is not None), 1)
    return np.array([np.full(width, np.nan) if e is None else e for e in embeddings], np.float32)
