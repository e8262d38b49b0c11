"""What is finished of a long measurement, kept on disk so that a rerun goes on where the last one stopped."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from facecodec import files
from facecodec.errors import FscError


class Journal:
    """Records by key in a file of JSON lines, of which the first holds the ``conditions`` they share.

    Without a ``path`` they are kept in memory alone.  A file of other conditions is refused, or begun again
    with ``force``; a last line that was cut off does not count.  Raises FscError.
    """

    def __init__(self, path: Path | None, conditions: dict[str, Any], *, force: bool = False) -> None:
        self._path = path
        self.records: dict[str, Any] = {}
        if not path:
            return
        head = json.dumps(conditions)
        lines = files.read(path).decode("utf-8", "replace").split("\n")[:-1] if path.exists() else []
        if lines and lines[0] == head:
            for line in lines[1:]:
                key, record = json.loads(line, object_hook=_unpacked)
                self.records[key] = record
            kept = "".join(line + "\n" for line in lines)
            if len(kept.encode()) != path.stat().st_size:
                files.write_atomic(path, kept.encode(), force=True)
        elif lines and not force:
            raise FscError(
                f"{path} was measured with {_difference(lines[0], conditions)}; --force begins again"
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(path, (head + "\n").encode(), force=force or not lines)

    def add(self, key: str, result: Any) -> None:
        """Keep a dataclass of JSON values, float32 arrays and such dataclasses as a record of its fields."""
        line = json.dumps([key, asdict(result)], default=_packed)
        self.records[key] = json.loads(line, object_hook=_unpacked)[1]
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _packed(value: Any) -> dict[str, Any]:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        raise TypeError(f"{type(value)} is not kept")
    return {"float32": base64.b64encode(value.astype("<f4").tobytes()).decode(), "shape": value.shape}


def _unpacked(value: dict[str, Any]) -> Any:
    if value.keys() != {"float32", "shape"}:
        return value
    data = base64.b64decode(value["float32"])
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(value["shape"])


def _difference(line: str, conditions: dict[str, Any]) -> str:
    """Return in words which conditions were others."""
    try:
        before = json.loads(line)
        others = sorted(key for key in {*before, *conditions} if before.get(key) != conditions.get(key))
    except (ValueError, TypeError, AttributeError):
        return "something else"
    return "other " + ", ".join(others)
