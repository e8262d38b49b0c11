"""Model files: found by name or id, verified by hash, read as tensors.

A model file is ``NAME-vN.safetensors``; its id is the first 4 bytes of the SHA-256 of the whole file, which
``SHA256SUMS`` beside it lists in the usual format.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .container import ID_BYTES
from .errors import WeightsError
from .exact import Layer, Map

SUMS = "SHA256SUMS"


@dataclass(frozen=True, eq=False)
class Model:
    """One model file: its name, its id of 4 bytes, its tensors by name."""

    name: str
    id: bytes
    tensors: dict[str, npt.NDArray[Any]]

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        """Return one tensor; raises WeightsError if the file has none of that name."""
        if key not in self.tensors:
            raise WeightsError(f"{self.name}: no tensor {key}")
        return self.tensors[key]

    def part(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return the tensors ``name.KEY`` by KEY."""
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}

    def integers(self, key: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return an integer tensor after checking its shape (-1 matches any length)."""
        tensor = self[key]
        fits = len(shape) == tensor.ndim and all(
            a in (-1, b) for a, b in zip(shape, tensor.shape, strict=True)
        )
        if tensor.dtype.kind not in "iu" or not fits:
            raise WeightsError(f"{self.name}: {key} is {tensor.dtype}{tensor.shape}, not integers {shape}")
        return tensor

    def layer(
        self,
        name: str,
        inputs: int,
        bound: int | npt.NDArray[Any],
        lo: int,
        hi: int,
        *,
        stride: int = 1,
        outputs: int = -1,
        multiple: int = 1,
    ) -> Layer:
        """Return the layer ``name`` after its proof of range.

        It has ``outputs`` channels, or where that is -1 any ``multiple``; raises WeightsError if not.
        """
        weight = self.integers(f"{name}.weight", (outputs, inputs, -1, -1))
        if len(weight) % multiple:
            raise WeightsError(f"{self.name}: {name} has {len(weight)} channels, no multiple of {multiple}")
        return Layer.from_integers(
            weight,
            self.integers(f"{name}.bias", (-1,)),
            self.integers(f"{name}.shift", (-1,)),
            input_bound=bound,
            lo=lo,
            hi=hi,
            stride=stride,
            name=f"{self.name} {name}",
            room=self._room[name],
        )

    @cached_property
    def _room(self) -> dict[str, Map]:
        """Where the matrices of each layer go: one piece of memory, which systems give out in large pages.

        In many pieces, touching their pages for the first time takes most of the time of loading.
        """
        weights = self.tensors.items()
        sizes = {key.removesuffix(".weight"): w.size for key, w in weights if key.endswith(".weight")}
        ends = np.cumsum([*sizes.values()])
        return dict(zip(sizes, np.split(np.empty(ends[-1], np.float32), ends[:-1]), strict=True))


def folder() -> Path:
    """Return the folder of the model files: ``$FSC_WEIGHTS``, the installed package's, or the checkout's."""
    return _folder(os.environ.get("FSC_WEIGHTS"))


@cache
def _folder(chosen: str | None) -> Path:
    if chosen:
        return Path(chosen)
    package = Path(__file__).parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


@cache
def sums(where: Path) -> dict[str, str]:
    """Return the SHA-256 of each listed model by name; raises WeightsError if the list is unreadable."""
    listed = {}
    try:
        for line in (where / SUMS).read_text("ascii").splitlines():
            digest, file = line.split()
            listed[file.removesuffix(".safetensors")] = digest
    except (OSError, ValueError) as error:
        raise WeightsError(f"no readable list of weights at {where / SUMS}: {error}") from None
    return listed


def newest(kind: str) -> str:
    """Return the name of the newest listed version of ``kind``, such as ``base``; raises WeightsError."""
    versions = [
        version for name, version in map(_parted, sums(folder())) if name == kind and version.isdigit()
    ]
    if not versions:
        raise WeightsError(f"no weights of kind {kind} in {folder()}")
    return f"{kind}-v{max(versions, key=int)}"


def named(kind: str, identifier: bytes) -> str:
    """Return the name of the model of ``kind`` whose id begins with these bytes; raises WeightsError."""
    return _named(folder(), kind, identifier)


@cache
def _named(where: Path, kind: str, identifier: bytes) -> str:
    wanted = identifier.hex()
    found = [n for n, digest in sums(where).items() if _parted(n)[0] == kind and digest.startswith(wanted)]
    if not found:
        raise WeightsError(f"this file needs {kind} weights {wanted}, which are not installed")
    if found[1:]:
        raise WeightsError(f"{' and '.join(found)} are both {kind} weights {wanted}")
    return found[0]


def _parted(name: str) -> tuple[str, str]:
    """Return the kind and the version of a model's name."""
    kind, _, version = name.rpartition("-v")
    return kind, version


def load(name: str) -> Model:
    """Return the model ``name``, verified against its SHA-256; read once a process."""
    return _load(folder(), name)


@cache
def _load(where: Path, name: str) -> Model:
    try:
        with (where / f"{name}.safetensors").open("rb") as file:
            data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    except OSError as error:
        raise WeightsError(f"weights {name} cannot be read: {error.strerror}") from None
    except ValueError:
        raise WeightsError(f"weights {name} cannot be parsed: the file is empty") from None
    digest = hashlib.sha256(data.data)
    if digest.hexdigest() != sums(where).get(name):
        raise WeightsError(f"weights {name} are damaged: their SHA-256 is not the listed one")
    try:
        tensors = _tensors(data)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"weights {name} cannot be parsed: {error}") from None
    return Model(name, digest.digest()[:ID_BYTES], tensors)


def _tensors(data: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file as views of its bytes.  Spec: "Weights files"."""
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header, numbers = json.loads(data[8:start].tobytes()), data[start:]
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            kind, bits = entry["dtype"][0].lower(), int(entry["dtype"][1:])
            tensors[name] = numbers[first:end].view(f"<{kind}{bits // 8}").reshape(entry["shape"])
    return tensors
