"""A picture -> its faces and their codes: what an encoder does for the base layer."""

from __future__ import annotations

import bisect
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import base_layer, rans, weights
from .entropy import CODE_GROUP, CODE_TOP, code_groups
from .errors import WeightsError
from .geometry import Geometry
from .identity import MAX_FACE_PIXELS

if TYPE_CHECKING:
    from .networks.encoder import FaceEncoder

Pixels = npt.NDArray[np.uint8]

IDENTITY_BYTES = 64
APPEARANCE_BYTES = 60
STEPS = range(65)
"""Steps of identity codes to choose from: 1/32 octave apart, up to four times that of the tables."""
MAX_FACES = 255


def _matrix(place: Geometry | None, width: int, height: int) -> npt.NDArray[np.float64]:
    """Return the map (2, 3) from frame to picture between pixel centres, as ``faces.crop`` wants it."""
    if place is None:
        matrix = np.array([[width / 112, 0.0, 0.0], [0.0, height / 112, 0.0]])
    else:
        matrix = place.similarity(width, height)
    return np.column_stack([matrix[:, :2], matrix @ (0.5, 0.5, 1) - 0.5])


def places_in(pixels: Pixels, aligned: bool) -> tuple[Geometry | None, ...]:
    """Return where the faces of a picture lie, as its file says it."""
    from . import faces

    if aligned:
        return (None,)
    height, width = pixels.shape[:2]
    most = min(MAX_FACES, MAX_FACE_PIXELS // (width * height))
    found = [faces.similarity(face.landmarks) for face in faces.find(pixels)[:most]]
    centred = [np.column_stack([m[:, :2], m @ (-0.5, -0.5, 1) + 0.5]) for m in found]
    return tuple(Geometry.fit(matrix, width, height) for matrix in centred)


def coded(
    pixels: Pixels, model: base_layer.BaseModel, aligned: bool
) -> tuple[base_layer.Faces, base_layer.Codes]:
    """Return the faces of a picture and their appearance codes."""
    places = places_in(pixels, aligned)
    if not places:
        none = np.empty((0, base_layer.IDENTITY + base_layer.APPEARANCE), np.int32)
        return base_layer.Faces((), none[:, : base_layer.IDENTITY]), none[:, base_layer.IDENTITY :]
    from .networks import encoder

    near, wide = encoder.views(pixels, _matrices(pixels, places))
    network = face_encoder(model)
    identity = identity_codes(network.embed(near), network.step, model)
    appearance = network.codes(wide, partial(base_layer.previews, identity, model=model))
    return base_layer.Faces(places, identity), limited(appearance, model.appearance, APPEARANCE_BYTES)


def embedded(pixels: Pixels, places: tuple[Geometry | None, ...]) -> npt.NDArray[np.float32]:
    """Return float embeddings (N, 256), of unit norm, of the faces at these places of a picture."""
    if not places:
        return np.empty((0, base_layer.IDENTITY), np.float32)
    from .networks import encoder

    near, _ = encoder.views(pixels, _matrices(pixels, places))
    return face_encoder(base_layer.load(weights.newest("base"))).embed(near)


def face_encoder(model: base_layer.BaseModel) -> FaceEncoder:
    """Return the newest encoder of faces; raises WeightsError if it is for another base model."""
    from .networks import encoder

    name = weights.newest("trunk")
    network = encoder.face_encoder(name)
    if network.base != model.id:
        raise WeightsError(f"{name} is for the base model {network.base.hex()}, not for {model.id.hex()}")
    return network


def _matrices(pixels: Pixels, places: tuple[Geometry | None, ...]) -> list[npt.NDArray[np.float64]]:
    height, width = pixels.shape[:2]
    return [_matrix(place, width, height) for place in places]


def identity_codes(
    embeddings: npt.NDArray[np.float32], step: float, model: base_layer.BaseModel
) -> base_layer.Codes:
    """Return identity codes (N, 256) of unit embeddings, of ``IDENTITY_BYTES`` a face at most.

    Their step is ``step``, or more where a face needs it. Embeddings have unit length: no decoder need know.
    """
    return np.array([_finest(embedding / np.float32(step), model) for embedding in embeddings])


def _finest(scaled: npt.NDArray[np.float32], model: base_layer.BaseModel) -> base_layer.Codes:
    """Return the codes (256,) of a scaled embedding at the finest step for which they fit."""
    from .networks.encoder import quantised

    def codes(coarser: int) -> base_layer.Codes:
        return quantised(scaled * np.float32(2 ** (-coarser / 32)), CODE_TOP + 1)

    def fits(coarser: int) -> bool:
        found = codes(coarser)[None]
        if np.abs(found).max() > CODE_TOP:
            return False
        return len(rans.encode(code_groups(found, model.identity))) <= IDENTITY_BYTES

    return codes(STEPS[bisect.bisect_left(STEPS[:-1], True, key=fits)])


def limited(codes: base_layer.Codes, coders: tuple[rans.Table, ...], limit: int) -> base_layer.Codes:
    """Return codes (N, D) of at most ``limit`` bytes a face: the last dimensions of an excess are zeroed."""
    codes = codes.copy()
    for row in range(len(codes)):
        kept = codes.shape[1]
        while kept and len(rans.encode(code_groups(codes[row : row + 1], coders))) > limit:
            kept -= CODE_GROUP
            codes[row, kept:] = 0
    return codes
