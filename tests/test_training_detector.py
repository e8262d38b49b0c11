from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from facecodec import faces
from facecodec.errors import WeightsError
from facecodec.networks.detector import OUTPUTS, Detector, cells, fold, load_detector, read_cells, unfold
from facecodec.training import detector
from facecodec.training.data import Pictures, open_sets, turn
from facecodec.training.freeze import freeze
from facecodec.training.mosaics import Mosaics

SIDE = 96


def write_set(folder: Path, name: str, faced: bool) -> None:
    rng = np.random.default_rng(len(name))
    points = (faces.TEMPLATE * SIDE / 112).tolist()
    label = [{"box": [20.0, 15.0, 76.0, 90.0], "points": points, "score": 0.9}] if faced else []
    encoded, lines = b"", []
    for i in range(3):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(buffer, "PNG")
        record = {"id": str(i), "source": "noise", "size": SIDE, "faces": label}
        lines.append(json.dumps(record | {"off": len(encoded), "len": buffer.tell()}))
        encoded += buffer.getvalue()
    (folder / f"{name}.bin").write_bytes(encoded)
    (folder / f"{name}.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("train-0", "val", "lfw-dev"):
        write_set(folder, name, True)
    write_set(folder, "scenes", False)
    return folder


@pytest.fixture(scope="module")
def mosaics(data: Path) -> Mosaics:
    cache = data / "cache"
    return Mosaics(
        open_sets(data, "train-*", cache), open_sets(data, "scenes", cache), np.random.default_rng(3)
    )


def test_pasted_labels_follow_the_pixels() -> None:
    # A white dot on black at each landmark must still be there after a turn, a mirror or a change of scale.
    points = np.round(faces.TEMPLATE * 2)
    source = np.zeros((224, 224, 3), np.uint8)
    for x, y in points.astype(int):
        source[y - 3 : y + 4, x - 3 : x + 4] = 255
    label = {"box": [40.0, 30.0, 184.0, 210.0], "points": points.tolist()}
    pictures = Pictures(
        [source.ravel()],
        [{"source": "squares", "size": [224, 224], "store": 0, "start": 0, "faces": [label]}],
    )
    mosaics = Mosaics(pictures, pictures, np.random.default_rng(0))
    for eyes in (20.0, 70.0):
        for angle in (-0.6, 0.0, 0.5):
            view = mosaics.single(256, eyes, angle)
            for x, y in view.points[0].round().astype(int):
                assert view.pixels[y, x].mean() > 150
            left, right = view.points[0][0], view.points[0][1]
            assert left[0] < right[0]


def test_mosaics_have_faces_of_the_right_kind(mosaics: Mosaics) -> None:
    crowds, portraits = [mosaics.crowd() for _ in range(24)], [mosaics.portrait() for _ in range(24)]
    assert all(view.pixels.shape == (256, 256, 3) for view in crowds)
    assert all(view.pixels.shape == (128, 128, 3) and len(view.boxes) == 1 for view in portraits)
    counts = {len(view.boxes) for view in crowds}
    assert 0 in counts and 1 in counts and max(counts) > 2


def test_every_learnable_face_gets_cells() -> None:
    grid = cells(256, 256)
    for size in (15.0, 24.0, 50.0, 120.0, 250.0):
        box = torch.tensor([[[100 - size / 2, 90 - size / 2, 100 + size / 2, 90 + size / 2]]])
        points = torch.tensor([[-0.2, -0.2], [0.2, -0.2], [0.0, 0.0], [-0.2, 0.2], [0.2, 0.2]]) * size
        index, counts = detector.assign(box, (points + torch.tensor([100.0, 90.0]))[None, None], grid, 256)
        strides = {int(s) for s in grid[index[0] == 0, 2]}
        assert strides and all(detector.LEVELS[s][0] <= size < detector.LEVELS[s][1] for s in strides)
        assert counts.all()


def test_a_face_too_small_to_learn_is_neither_right_nor_wrong() -> None:
    grid = cells(64, 64)
    box = torch.tensor([[[16.0, 16.0, 24.0, 24.0]]])
    points = torch.tensor([[18.0, 18.0], [22.0, 18.0], [20.0, 20.0], [18.0, 22.0], [22.0, 22.0]])
    index, counts = detector.assign(box, points[None, None], grid, 64)
    assert (index == -1).all() and 0 < (~counts).sum() < 6


def test_overlap() -> None:
    iou, generalised = detector.overlap(
        torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]]), torch.tensor([[1.0, 0, 3, 2], [3, 0, 4, 1]])
    )
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(generalised, torch.tensor([1 / 3, -0.5]))


def test_losses_vanish_for_the_true_answer(mosaics: Mosaics) -> None:
    _, boxes, points = detector.stacked([mosaics.portrait() for _ in range(8)])
    grid = cells(128, 128)
    index, _ = detector.assign(boxes, points, grid, 128)
    true = torch.zeros(8, len(grid), OUTPUTS)
    true[..., 0] = torch.where(index >= 0, 12.0, -12.0)
    face = index.clamp(min=0)
    box = boxes[torch.arange(8)[:, None], face]
    reach = torch.cat([grid[:, :2] - box[..., :2], box[..., 2:] - grid[:, :2]], -1) / grid[:, 2:]
    true[..., 1:5] = reach.clamp(min=1e-3).log()
    offsets = (points[torch.arange(8)[:, None], face] - grid[:, None, :2]) / grid[:, 2:, None]
    true[..., 5:] = offsets.flatten(-2)
    parts = detector.losses(true, boxes, points, 128)
    assert parts["landmarks"] < 1e-6 and parts["score"] < 1e-3 and parts["box"] < 1e-4
    assert detector.losses(torch.zeros_like(true), boxes, points, 128)["landmarks"] > 0.1


def test_folding_keeps_the_function() -> None:
    torch.manual_seed(0)
    network = Detector()
    x = torch.rand(2, 3, 64, 96) * 2 - 1
    network(x)
    network.eval()
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(fold(network)(x), expected, atol=1e-4, rtol=1e-4)
    assert expected.shape == (2, len(cells(64, 96)), OUTPUTS)
    scores, boxes, landmarks = read_cells(expected, cells(64, 96))
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    assert scores.shape == boxes.shape[:2] and landmarks.shape == (*scores.shape, 5, 2)


def test_what_was_folded_unfolds_to_the_same_function() -> None:
    torch.manual_seed(0)
    network, again = Detector(), Detector()
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    network(x)
    folded = fold(network.eval())
    unfold(again, {name: tensor.numpy() for name, tensor in folded.state_dict().items()}, x)
    with torch.no_grad():
        expected = folded(x)
        torch.testing.assert_close(again.eval()(x), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(again.train()(x), expected, atol=1e-3, rtol=1e-3)


def test_turn_of_a_face() -> None:
    frontal = faces.TEMPLATE.astype(np.float64)
    aside = frontal + np.array([[0, 0], [0, 0], [18, 0], [0, 0], [0, 0]])
    spin = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert turn(frontal) < 0.02 < 0.3 < turn(aside)
    assert turn(3 * aside @ spin.T + 40) == pytest.approx(turn(aside))


def test_train_export_load_evaluate(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, cache = tmp_path, tmp_path / "cache"
    monkeypatch.setattr(detector, "CROWDS", 2)
    monkeypatch.setattr(detector, "PORTRAITS", 2)
    detector.train(data=data, runs=runs, minutes=0.005)
    freeze(runs=runs, weights=tmp_path, data=data, network="detector", version=1)
    file = tmp_path / "detector-v1.safetensors"
    assert file.stat().st_size < 2_000_000
    tensors = load_file(file)
    assert all(tensor.dtype == np.float16 for tensor in tensors.values())
    load_detector(tensors)
    with pytest.raises(WeightsError):
        load_detector(dict(list(tensors.items())[1:]))

    monkeypatch.setenv("FSC_WEIGHTS", str(tmp_path))
    report = detector.evaluate(data, cache, every=200)
    assert {"lfw-dev", "val", "scenes", "filling"} <= report.keys()
    assert all(0 <= figures["with_faces"] <= 1 for figures in report.values())
    assert 0 <= report["lfw-dev"]["found"] <= 1 and report["scenes"]["found"] is None
