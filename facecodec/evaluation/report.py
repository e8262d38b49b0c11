"""One page of all measurements that lie in a folder."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from facecodec import files
from facecodec.errors import FscError
from facecodec.evaluation import chapters
from facecodec.evaluation.page import Section, html

PACKAGES = ("numpy", "torch", "pillow", "opencv-python", "pillow-jxl-plugin", "onnxruntime")
TITLE = "fsc eval"

ORDER: tuple[tuple[str, Callable[[dict[str, Any], Path], Section]], ...] = (
    ("rd", chapters.distortion),
    ("verify", chapters.verification),
    ("verify-*", chapters.verification),
    ("faces1024", chapters.thousand),
    ("robust", chapters.robust),
    ("previews", chapters.previews),
    ("previews-*", chapters.previews),
    ("groups-*", chapters.groups),
    ("faces", chapters.detection),
)
"""The summaries of a folder, by name, and what the page makes of each."""


def circumstances(command: str) -> dict[str, Any]:
    """Return under which a measurement took place: command line, day, machine, versions."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"command": command, "date": date.today().isoformat(), "machine": _machine(), "versions": versions}


def _machine() -> str:
    """Return system, processor and the number of its cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return f"{platform.system()} {platform.machine()}, {model}, {os.cpu_count()} cores"


def page(out: Path) -> str:
    """Return the HTML document of all measurements in a folder; raises FscError for a damaged one."""
    found = [(_read(path), make) for pattern, make in ORDER for path in sorted(out.glob(f"{pattern}.json"))]
    facts: dict[str, list[str]] = {}
    for summary, _ in found:
        parts = " ".join(f"{name} ({digest})" for name, digest in summary["weights"].items())
        versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
        for key, value in (
            ("command", summary["command"]),
            ("date", summary["date"]),
            ("machine", summary["machine"]),
            ("facecodec", f"{summary['facecodec']}, weights {parts}"),
            ("versions", versions),
        ):
            facts.setdefault(key, []).append(value)
    shown = [(key, value) for key, values in facts.items() for value in dict.fromkeys(values)]
    return html(TITLE, [make(summary, out) for summary, make in found], shown)


def _read(path: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(files.read(path))
    except ValueError as error:
        raise FscError(f"{path} is no summary of a measurement: {error}") from error
    return summary
