"""The import rules of the package: downwards only, and one door for each dependency."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facecodec

PACKAGE = Path(__file__).parent.parent / "facecodec"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 350

# A part imports parts of lower rows only; the parts of one row know nothing of each other.
ROWS = (
    ("errors",),
    ("container", "rans", "exact", "geometry", "images", "files", "wavelet"),
    ("entropy", "latents", "weights"),
    ("faces", "texture"),
    ("base_layer", "synthesis", "residual"),
    ("enhancement", "identity", "residual_fit"),
    ("account", "codec"),
    ("face_codes",),
    ("encoder",),
    ("evaluation",),
    ("training",),
    ("cli",),
)
LEVEL = {part: level for level, row in enumerate(ROWS) for part in row}
# The float networks stand beside the rows: they serve the codec and the trainers, which import them late.
NETWORKS_MAY_USE = {"errors", "exact", "geometry", "wavelet", "latents", "weights", "faces", "texture"}
NETWORKS_EARLY = {"evaluation", "training"}
NETWORKS_SERVE = {"faces", "codec", "face_codes", *NETWORKS_EARLY}

DOORS = {
    "constriction": {"rans"},
    "PIL": {"images", "evaluation", "training"},
    "cv2": {"images", "faces", "training", "evaluation"},
    "click": {"cli"},
    "jinja2": {"evaluation"},
    "orjson": {"cli"},
    "torch": {"networks", "training", "evaluation"},
}
LATE = {"cv2": {"images", "faces"}}


def part(path: Path) -> str:
    """The part of the package that a file belongs to: the module or subpackage right below it."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_of(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Full names of all that a file imports, but for what only the type checker sees."""
    tree = ast.parse(path.read_text())
    here = ["facecodec", *path.relative_to(PACKAGE).with_suffix("").parts]
    unseen: set[ast.AST] = set()
    for node in ast.walk(tree):
        if (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)) or (
            top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ):
            unseen.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*here[: -node.level], *filter(None, [node.module])]) if node.level else node.module
            )
            yield from (f"{base}.{alias.name}" for alias in node.names)


def parts_of(path: Path, *, top_level: bool = False) -> set[str]:
    names = [name.split(".") for name in modules_of(path, top_level=top_level)]
    return {name[1] for name in names if name[0] == "facecodec" and len(name) > 1 and name[1] in KNOWN}


KNOWN = {part(path) for path in MODULES}


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_imports_go_downwards_only(path: Path) -> None:
    here = part(path)
    if here in ("__init__", "__main__"):
        return
    used = parts_of(path) - {here}
    if here == "networks":
        assert used <= NETWORKS_MAY_USE
        return
    if "networks" in used:
        assert here in NETWORKS_SERVE
        assert here in NETWORKS_EARLY or "networks" not in parts_of(path, top_level=True)
    assert here in LEVEL, "a new part of the package needs a place in ROWS"
    upwards = {other for other in used - {"networks"} if LEVEL[other] >= LEVEL[here]}
    assert upwards == set()


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_one_dependency_one_door(path: Path) -> None:
    roots = {name.split(".")[0] for name in modules_of(path)}
    for dependency, doors in DOORS.items():
        if dependency in roots:
            assert part(path) in doors
    early = {name.split(".")[0] for name in modules_of(path, top_level=True)}
    for dependency, late in LATE.items():
        assert not (dependency in early and part(path) in late), (
            f"{dependency} is to be imported inside a function"
        )


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_files_are_short_and_free_of_pickle(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST
    assert not {name.split(".")[0] for name in modules_of(path)} & {"pickle", "shelve", "marshal", "dill"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            raise AssertionError("torch.load reads pickles")


def test_the_package_imports_neither_torch_nor_opencv() -> None:
    script = "import sys; from facecodec import *; sys.exit(str({'torch', 'cv2'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stderr.strip() == "set()"


def test_the_package_and_its_command_open_before_numpy_is_there() -> None:
    script = (
        "import sys, facecodec.cli.coding; from facecodec import FscError; sys.exit('numpy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_all_that_is_public_is_there_and_nothing_else() -> None:
    assert {name: getattr(facecodec, name).__name__ for name in dir(facecodec)} == {
        name: name for name in facecodec.__all__
    }
    with pytest.raises(AttributeError, match="no attribute 'encoding'"):
        facecodec.encoding  # noqa: B018


def test_the_rules_would_notice() -> None:
    source = PACKAGE / "rans.py"
    assert "constriction" in {name.split(".")[0] for name in modules_of(source)}
    assert "errors" in parts_of(source)
    assert "click" in {
        name.split(".")[0] for name in modules_of(PACKAGE / "cli" / "coding.py", top_level=True)
    }
    assert "facecodec.images" in modules_of(PACKAGE / "cli" / "coding.py")
    assert "facecodec.images" not in modules_of(PACKAGE / "cli" / "coding.py", top_level=True)
