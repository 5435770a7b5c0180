"""`amdm batch`: exit codes, what it prints, and that its pictures are those of `amdm run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from amdm_framework.batch import run as run_module
from amdm_framework.batch.drawing import Drawer
from amdm_framework.models.context import LoadContext
from toy_plugin import TOY, ToyOptions, ToyPromptProvider, toy_registry

Amdm = Callable[..., Result]
SCENES = ("batch", "composition.yaml", "--scenes", "scenes.jsonl", "--output", "out")


@pytest.fixture(autouse=True)
def scenes(amdm: Amdm) -> None:
    """Three scenes, the second of which is wrong."""
    lines = [{"caption": "one", "seed": 5, "name": "first"}, {"captoin": "two"}, {"caption": "three"}]
    Path("scenes.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_a_bad_scene_gives_exit_code_1_and_its_reason(amdm: Amdm) -> None:
    result = amdm(*SCENES, "--batch-size", "2", code=1)
    summary, ledger = result.stdout.splitlines()
    assert summary.startswith("2 drawn, 1 failed; ") and ledger == "out/ledger.jsonl"
    assert result.stderr.splitlines() == [
        "failed: 000002: line 2: captoin: unknown key. Did you mean 'caption'? Known keys: caption, negative, "
        "instances, interactions, references"
    ]
    assert sorted(path.name for path in Path("out").iterdir()) == ["000003.png", "first.png", "ledger.jsonl"]


def test_json_says_what_was_done(amdm: Amdm) -> None:
    content = json.loads(amdm(*SCENES, "--json", code=1).stdout)
    assert content["files"] == ["out/first.png", "out/000003.png"] and content["ledger"] == "out/ledger.jsonl"
    assert (content["drawn"], content["skipped"], content["left"]) == (2, 0, 0)
    assert [entry["name"] for entry in content["failed"]] == ["000002"] and "captoin" in content["failed"][0]["error"]
    assert content["seconds"] > 0 and content["images_per_second"] > 0
    Path("scenes.jsonl").write_text('{"caption": "one", "seed": 5, "name": "first"}\n')
    content = json.loads(amdm(*SCENES, "--json", "--resume").stdout)
    assert (content["drawn"], content["skipped"], content["failed"]) == (0, 1, [])


def test_a_picture_is_that_of_run_and_can_be_drawn_again(amdm: Amdm) -> None:
    amdm(*SCENES, code=1)
    Path("first.yaml").write_text("caption: one\n")
    amdm("run", "composition.yaml", "--scene", "first.yaml", "--seed", "5")
    assert Path("out/first.png").read_bytes() == Path("first-5.png").read_bytes()
    amdm("rerun", "out/first.png", "--output", "again")
    assert Path("out/first.png").read_bytes() == Path("again/first.png").read_bytes()
    amdm(*SCENES[:-1], "plain", "--no-metadata", code=1)
    amdm("rerun", "plain/first.png", code=2)


def test_limit_and_resume(amdm: Amdm) -> None:
    assert amdm(*SCENES, "--limit", "1").stdout.startswith("1 drawn, 2 beyond --limit; ")
    assert "there is a batch in this folder already: --resume" in amdm(*SCENES, code=2).stderr
    assert amdm(*SCENES, "--resume", code=1).stdout.startswith("1 drawn, 1 done before, 1 failed; ")


def test_a_changed_composition_is_refused_unless_forced(amdm: Amdm) -> None:
    amdm(*SCENES, "--limit", "1")
    changed = (*SCENES, "--resume", "--set", "sampler.steps=3")
    result = amdm(*changed, code=2)
    assert (
        "the composition, or a local file that it names, is not the one that the batch was begun with" in result.stderr
    )
    assert amdm(*changed, "--force", code=1).stdout.startswith("1 drawn, 1 done before, 1 failed; ")
    amdm(*SCENES, "--resume", code=2)


def test_the_dtype_is_the_compositions_where_the_option_says_nothing(amdm: Amdm) -> None:
    amdm(*SCENES, "--set", "dtype=bfloat16", "--limit", "1")
    header = json.loads(Path("out/ledger.jsonl").read_text().splitlines()[0])
    assert (header["device"], header["dtype"], header["batch_size"]) == ("cpu", "bfloat16", 1)


def test_each_member_computes_in_what_run_gives_it(amdm: Amdm, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(options: ToyOptions, context: LoadContext) -> ToyPromptProvider:
        loaded.append((str(context.device), context.dtype))
        return ToyPromptProvider(options)

    def choose_dtype(name: str, device: torch.device) -> torch.dtype:
        # The second CPU stands for a GPU.
        assert name in ("auto", "float16")
        return torch.float16 if name == "float16" or device.index == 1 else torch.float32

    registry = toy_registry(TOY.model_copy(update={"load": load}))
    monkeypatch.setattr("amdm_framework.cli.group.discover", lambda: registry)
    monkeypatch.setattr("amdm_framework.models.context.choose_dtype", choose_dtype)
    Path("composition.yaml").write_text(
        "providers: [{use: toy}, {use: toy, name: other, device: cpu}]\n"
        "aggregation: {strategy: epsilon_average}\nsampler: {steps: 2}\n"
    )
    Path("first.yaml").write_text("caption: one\n")
    amdm("run", "composition.yaml", "--scene", "first.yaml", "--device", "cpu:1")
    by_run = loaded.copy()
    loaded.clear()
    amdm(*SCENES, "--limit", "1", "--device", "cpu:1")
    assert loaded == by_run == [("cpu:1", torch.float16), ("cpu", torch.float32)]


def test_too_little_memory_and_a_device_that_fails_are_explained(amdm: Amdm, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(options: ToyOptions, context: LoadContext) -> ToyPromptProvider:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with monkeypatch.context() as patched:
        registry = toy_registry(TOY.model_copy(update={"load": load}))
        patched.setattr("amdm_framework.cli.group.discover", lambda: registry)
        assert "too little memory to load the models" in amdm(*SCENES, code=2).stderr

    def draw(*arguments: object) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA.")

    with monkeypatch.context() as patched:
        patched.setattr(Drawer, "draw", draw)
        stderr = amdm(*SCENES, "--resume", code=2).stderr
    expected = (
        "the device failed: CUDA error: device-side assert triggered; what is drawn is kept, the batch can be resumed\n"
    )
    assert stderr.endswith(expected)
    assert amdm(*SCENES, "--resume", code=1).stdout.startswith("2 drawn, 1 failed; ")


def test_a_changed_file_of_the_composition_is_a_changed_composition(amdm: Amdm) -> None:
    Path("weights").mkdir()
    Path("weights/unet.bin").write_bytes(b"1")
    Path("lora.bin").write_bytes(b"1")
    options = ("--set", "providers.0.checkpoint=weights", "--set", "providers.0.palette=lora.bin")
    amdm(*SCENES, *options, "--limit", "1")
    amdm(*SCENES, *options, "--limit", "1", "--resume")
    Path("lora.bin").write_bytes(b"2")
    amdm(*SCENES, *options, "--limit", "1", "--resume", code=2)
    Path("lora.bin").write_bytes(b"1")
    amdm(*SCENES, *options, "--limit", "1", "--resume")
    Path("weights/unet.bin").write_bytes(b"12")
    amdm(*SCENES, *options, "--limit", "1", "--resume", code=2)


def test_the_seed_option_decides_about_scenes_without_one(amdm: Amdm) -> None:
    amdm(*SCENES, "--limit", "1")
    amdm(*SCENES, "--resume", "--seed", "1", "--limit", "1")
    amdm(*SCENES[:-1], "other", "--seed", "1", code=1)
    amdm(*SCENES, "--resume", code=1)
    assert Path("other/first.png").read_bytes() == Path("out/first.png").read_bytes()
    assert Path("other/000003.png").read_bytes() != Path("out/000003.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scenes", "none.jsonl"), "none.jsonl: no such file"),
        (("--scenes", "composition.yaml"), "expected a folder of scene YAML files"),
        (("--force",), "--force goes with --resume"),
        (("--address", "auto"), "--address goes with --engine ray"),
        (("--gpus-per-worker", "0"), "--gpus-per-worker goes with --engine ray"),
        (("--set", "sampler.steps=0"), "sampler.steps: input should be greater than or equal to 1"),
        (("--output", "scenes.jsonl"), "is a file, expected a folder to write to"),
        (("--device", "cuda:77"), "device 'cuda:77'"),
        (("--batch-size", "0"), "0 is not in the range"),
    ],
)
def test_wrong_input_gives_exit_code_2_and_leaves_nothing(amdm: Amdm, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(Path().iterdir())
    assert message in amdm(*SCENES, *arguments, code=2).stderr
    assert sorted(Path().iterdir()) == before


def test_mistakes_of_both_files_come_together(amdm: Amdm) -> None:
    Path("scenes.jsonl").write_text("")
    stderr = amdm(*SCENES, "--set", "sampler.stpes=3", code=2).stderr
    assert "did you mean" in stderr.lower() and "scenes.jsonl: holds no scenes" in stderr


def test_an_interruption_says_how_to_go_on(amdm: Amdm, monkeypatch: pytest.MonkeyPatch) -> None:
    amdm(*SCENES, "--limit", "1")

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "take_name", interrupt)
        result = amdm(*SCENES, "--resume", code=130)
    assert "the same command with --resume goes on" in result.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["first.png", "ledger.jsonl"]
    assert amdm(*SCENES, "--resume", code=1).stdout.startswith("1 drawn, 1 done before, 1 failed; ")
