from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import readme

from facecodec import weights

TEXT = readme.README.read_text()
SHIPPED = {name.rpartition("-v")[0] for name in weights.sums(weights.folder())}

trained = pytest.mark.skipif("texture" not in SHIPPED, reason="the weights are not shipped yet")


def without_numbers(text: str) -> list[str]:
    """What another machine prints too: its float encoder may differ in the last byte."""
    return [re.sub(r"[ |-]+", " ", re.sub(r"[-+]?\d[\d,.]*", "0", line)) for line in text.splitlines()]


@trained
def test_the_console_shows_what_the_commands_print(tmp_path: Path) -> None:
    readme.prepare(tmp_path)
    blocks = readme.CONSOLE.findall(TEXT)
    assert sum(len(readme.commands(block)) for block in blocks) >= 4
    for block in blocks:
        assert without_numbers(readme.shown(block, tmp_path)) == without_numbers(block)


@trained
def test_the_python_runs(tmp_path: Path) -> None:
    readme.prepare(tmp_path)
    (script,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(script.splitlines()) <= 12
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )


def test_make_knows_every_target() -> None:
    targets = set(re.findall(r"^([a-z]+):", (readme.ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"\bmake ([a-z]+)", TEXT)
    assert {"demo", "test"} <= set(named) <= targets


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    assert [link for link in links if not (readme.ROOT / link).exists()] == []


def test_the_commands_are_those_of_fsc() -> None:
    from facecodec import cli

    for block in readme.CONSOLE.findall(TEXT):
        for command in readme.commands(block):
            name = command.split()[1]
            assert command.startswith("fsc ") and name in cli.COMMANDS
