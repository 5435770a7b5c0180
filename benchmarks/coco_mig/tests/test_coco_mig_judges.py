"""The real classes of transformers behind the interfaces, with tiny random weights found by reference."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BertTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    SamImageProcessorPil,
    SamModel,
)

from amdm_bench_coco_mig.grounding_dino import load_detector
from amdm_bench_coco_mig.judges import Judges
from amdm_bench_coco_mig.segment_anything import load_segmenter
from amdm_framework.errors import CheckpointError
from amdm_framework.models.context import LoadContext

PICTURE = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)


def context(base_dir: Path) -> LoadContext:
    return LoadContext(torch.device("cpu"), torch.float32, base_dir)


def test_detections_are_what_the_network_says_above_a_quarter(judges: Path) -> None:
    found = load_detector("dino", context(judges)).detect(PICTURE, "Dining Table")
    # By hand: the network's own numbers, centre and size turned to corners.
    inputs = GroundingDinoImageProcessorPil.from_pretrained(judges / "dino")(
        Image.fromarray(PICTURE), return_tensors="pt"
    )
    text = BertTokenizer.from_pretrained(judges / "dino")("dining table.", return_tensors="pt")
    model = GroundingDinoForObjectDetection.from_pretrained(judges / "dino").eval()
    with torch.inference_mode():
        outputs = model(**inputs, **text)
    scores = outputs.logits[0].sigmoid().amax(dim=1).double().numpy()
    x, y, width, height = 512 * outputs.pred_boxes[0].double().numpy().T
    boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    seen = scores > 0.25
    assert 0 < seen.sum() < len(scores)
    assert found.scores == pytest.approx(scores[seen], abs=1e-6)
    assert found.boxes == pytest.approx(boxes[seen], abs=1e-3)


def test_a_name_is_read_word_by_word(judges: Path) -> None:
    detector = load_detector("dino", context(judges))
    table, cup = detector.detect(PICTURE, "dining table"), detector.detect(PICTURE, "cup")
    assert table.boxes.shape != cup.boxes.shape or not np.allclose(table.boxes, cup.boxes)


def test_a_detector_that_sees_nothing(judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amdm_bench_coco_mig.grounding_dino.BOX_THRESHOLD", 1.0)
    found = load_detector(str(judges / "dino"), context(tmp_path)).detect(PICTURE, "cup")
    assert found.boxes.shape == (0, 4) and found.scores.shape == (0,)


def test_of_three_masks_the_one_with_the_highest_score_is_taken(judges: Path) -> None:
    boxes = np.array([[10, 20, 200, 300], [0, 0, 512, 512], [300, 300, 400, 500]], dtype=float)
    masks = load_segmenter("sam", context(judges)).segment(PICTURE, boxes)
    assert masks.shape == (3, 512, 512) and masks.dtype == bool
    processor = SamImageProcessorPil.from_pretrained(judges / "sam")
    model = SamModel.from_pretrained(judges / "sam").eval()
    inputs = processor(Image.fromarray(PICTURE), return_tensors="pt")
    for mask, box in zip(masks, boxes, strict=True):
        # Alone, in the 64 pixels of the network.
        prompt = torch.tensor(box / 8, dtype=torch.float32)[None, None]
        with torch.inference_mode():
            outputs = model(pixel_values=inputs["pixel_values"], input_boxes=prompt)
        assert outputs.pred_masks.shape[:3] == (1, 1, 3)
        best = int(outputs.iou_scores[0, 0].argmax())
        logits = torch.nn.functional.interpolate(outputs.pred_masks[:, 0], (64, 64), mode="bilinear")
        logits = torch.nn.functional.interpolate(logits, (512, 512), mode="bilinear")[0, best]
        clear = (logits.abs() > 1e-6).numpy()
        assert np.array_equal(mask[clear], (logits > 0).numpy()[clear]) and clear.mean() > 0.5
    assert 0 < masks.mean() < 1


@pytest.mark.parametrize(
    "library", ["amdm-bench-coco-mig", "numpy", "opencv-python-headless", "pillow", "torch", "transformers"]
)
def test_scores_are_not_those_of_another_version_of_what_computes_them(
    judges: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Judges("dino", "sam", context(judges))
    before = both.digest()
    assert both.digest() == before
    read = importlib.metadata.version
    monkeypatch.setattr("amdm_bench_coco_mig.judges.version", lambda name: "0.0.1" if name == library else read(name))
    assert both.digest() != before


def damaged(judges: Path, folder: Path, name: str) -> Path:
    shutil.copytree(judges / name, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("dino", "model.safetensors", "model.safetensors: no such file .found no weights"),
        ("dino", "config.json", "config.json: no such file"),
        ("dino", "preprocessor_config.json", "preprocessor_config.json: no such file"),
        ("dino", "tokenizer.json", "tokenizer.json: no such file"),
        ("sam", "model.safetensors", "model.safetensors: no such file"),
    ],
)
def test_files_that_are_missing_are_named(judges: Path, tmp_path: Path, name: str, file: str, message: str) -> None:
    (damaged(judges, tmp_path, name) / file).unlink()
    with pytest.raises(CheckpointError, match=message):
        (load_detector if name == "dino" else load_segmenter)(name, context(tmp_path))


def test_a_pickle_is_not_read(judges: Path, tmp_path: Path) -> None:
    folder = damaged(judges, tmp_path, "sam")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="model.safetensors: no such file .found pytorch_model.bin in"):
        load_segmenter("sam", context(tmp_path))


def test_a_weight_that_is_missing_or_misshaped_is_noticed(judges: Path, tmp_path: Path) -> None:
    weights = damaged(judges, tmp_path, "sam") / "model.safetensors"
    tensors = load_file(weights)
    name = "mask_decoder.iou_token.weight"
    kept = {other: tensor for other, tensor in tensors.items() if other != name}
    save_file(kept, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"1 weights are missing or of another shape, such as {name}"):
        load_segmenter("sam", context(tmp_path))
    save_file({**tensors, name: tensors[name][:, :8].contiguous()}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match="sam: cannot be loaded|of another shape"):
        load_segmenter("sam", context(tmp_path))
    weights.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="sam: cannot be loaded"):
        load_segmenter("sam", context(tmp_path))


def test_another_model_is_refused(judges: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a model of type 'sam', its config.json says 'grounding-dino'"):
        load_segmenter("dino", context(judges))
    folder = damaged(judges, tmp_path, "dino")
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_detector("dino", context(tmp_path))
    with pytest.raises(CheckpointError, match="is a file, expected a folder with config.json"):
        load_detector("dino/model.safetensors", context(judges))


def test_code_that_lies_in_the_folder_is_not_run(judges: Path, tmp_path: Path) -> None:
    folder = damaged(judges, tmp_path, "dino")
    trace = tmp_path / "trace"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil:\n    pass\n")
    for file, key in (("config.json", "AutoModel"), ("tokenizer_config.json", "AutoTokenizer")):
        content = json.loads((folder / file).read_text())
        value = ["evil.Evil", None] if key == "AutoTokenizer" else "evil.Evil"
        (folder / file).write_text(json.dumps({**content, "auto_map": {key: value}}))
    load_detector("dino", context(tmp_path)).detect(PICTURE, "cup")
    assert not trace.exists()


def test_of_a_repository_only_what_is_needed_is_fetched(monkeypatch: pytest.MonkeyPatch, judges: Path) -> None:
    names = [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "pytorch_model.bin",
        "vocab.txt",
    ]
    names += ["tokenizer.json", "tf_model.h5", "onnx/model.onnx", "model.py"]
    asked = {}

    def snapshot_download(repository: str, **options: object) -> str:
        asked[repository] = options["allow_patterns"]
        return str(judges / "dino")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, repository, revision: names)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    load_detector("hf://someone/dino", context(judges))
    assert {key: sorted(files) for key, files in asked.items()} == {  # type: ignore[call-overload]
        "someone/dino": ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "vocab.txt"]
    }
