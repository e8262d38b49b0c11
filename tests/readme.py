"""The console of README.md, run in order in one folder. Run this file to write what is shown into it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prepare(folder: Path) -> None:
    """Put the picture there that README.md speaks of."""
    (folder / "photos").mkdir()
    for name in ("photo.png", "photos/photo.png"):
        shutil.copy(ROOT / "examples" / "astronaut.png", folder / name)


def commands(block: str) -> list[str]:
    """Return the commands of a console block."""
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


def run(command: str, folder: Path) -> str:
    """Return what a terminal would show."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode:
        raise AssertionError(f"$ {command}\n{result.stdout}")
    return result.stdout


def shown(block: str, folder: Path) -> str:
    """Return a console block with what its commands print now."""
    return "".join(f"$ {command}\n{run(command, folder)}" for command in commands(block))


def main() -> None:
    """Write what the commands print into README.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        text = CONSOLE.sub(lambda m: f"```console\n{shown(m[1], folder)}```", README.read_text())
    README.write_text(text)


if __name__ == "__main__":
    main()
