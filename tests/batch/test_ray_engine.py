"""The Ray engine and the example of a service, on a real Ray cluster on this machine whose workers are killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from amdm_framework.batch import ray_engine
from amdm_framework.batch.drawing import Drawn
from amdm_framework.batch.ledger import Ledger
from amdm_framework.batch.ray_engine import GROUPS_PER_WORKER, RayEngine, _connected
from amdm_framework.cli import main
from amdm_framework.errors import AMDMError, InputError, Problem
from amdm_framework.record import read_record

ray = pytest.importorskip("ray")

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"
COMPOSITION = """
providers: [{use: stable_diffusion, checkpoint: "zoo://base"}]
aggregation: {strategy: single}
sampler: {steps: 3}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster with room for two workers, to which this process is connected."""
    # Workers cannot import this file.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with ExitStack() as stack:
        # Ray Serve gives its web server 5 seconds to start, which a busy machine exceeds again and again.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
        for last in (False, False, True):
            try:
                stack.enter_context(_connected(None, workers=2))
                break
            except InputError:
                # Ray gives its own processes 15 seconds to start, which a busy machine may exceed.
                if last:
                    raise
        yield ray.get_runtime_context().gcs_address


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Return what a condition gives as soon as it holds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


class NamesAsPictures:
    """Answers at once with the jobs' names, and leaves a line per group in a file named after its process."""

    def __init__(self, notes: Path, dies_of: str = "") -> None:
        self.notes, self.dies_of = notes / str(os.getpid()), dies_of

    def draw(self, group: list[Any]) -> list[str]:
        names = names_of(group)
        with self.notes.open("a") as file:
            file.write(" ".join(names) + "\n")
        if self.dies_of in names:
            os.kill(os.getpid(), signal.SIGKILL)
        return names


def dying_while_loading() -> NamesAsPictures:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def refusing_to_load() -> NamesAsPictures:
    raise InputError([Problem("no such file", "providers.0.checkpoint")])


def groups_of_two(count: int) -> list[list[Any]]:
    # Not `Job`: every worker would take seconds to import its module.
    return [[SimpleNamespace(name=f"{group}{half}", error="") for half in "ab"] for group in range(count)]


def names_of(group: list[Any]) -> list[str]:
    return [job.name for job in group]


def test_every_group_is_drawn_once_and_taken_only_when_needed(cluster: str, tmp_path: Path) -> None:
    taken = finished = 0
    ahead = []

    def groups() -> Iterator[list[Any]]:
        nonlocal taken
        for group in groups_of_two(30):
            taken += 1
            ahead.append(taken - finished)
            yield group

    seen = set()
    engine = RayEngine(partial(NamesAsPictures, tmp_path), workers=3)
    with pytest.warns(UserWarning, match=r"room for 2 of 3 workers \(each takes 1 CPU and 0 GPU\)"):
        for group, drawn in engine.run(groups()):
            finished += 1
            assert drawn == names_of(group)
            seen.add(drawn[0])
    assert len(seen) == finished == 30
    # What two workers hold, and the one that is always known ahead.
    assert max(ahead) <= 2 * GROUPS_PER_WORKER + 1


def test_killed_worker_loses_nothing_and_repeats_nothing(cluster: str, tmp_path: Path) -> None:
    order: list[str] = []
    results = RayEngine(partial(NamesAsPictures, tmp_path), workers=1).run(groups_of_two(20))
    for position, (group, drawn) in enumerate(results):
        assert drawn == names_of(group)
        order += drawn
        if position == 4:
            (only,) = tmp_path.iterdir()
            os.kill(int(only.name), signal.SIGKILL)
        if position == 15:
            break
    (living,) = {path.name for path in tmp_path.iterdir()} - {only.name}
    results.close()
    wait_until(lambda: not psutil.pid_exists(int(living)))
    assert len(order) == len(set(order)) == 32


def test_group_that_kills_three_workers_is_given_up_and_nothing_else(cluster: str, tmp_path: Path) -> None:
    engine = RayEngine(partial(NamesAsPictures, tmp_path, dies_of="2b"), workers=1)
    results = {group[0].name: drawn for group, drawn in engine.run(groups_of_two(5))}
    given_up = results.pop("2a")
    assert results == {f"{group}a": [f"{group}a", f"{group}b"] for group in (0, 1, 3, 4)}
    assert [(one.name, one.png) for one in given_up] == [("2a", None), ("2b", None)]
    assert all(one.error.startswith("given up after 3 attempts at its group: The actor died") for one in given_up)
    attempts = [path.read_text().splitlines().count("2a 2b") for path in tmp_path.iterdir()]
    assert sum(attempts) == 3 and max(attempts) == 1


def test_answer_that_a_death_swallowed_is_not_held_against_its_group(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = ray_engine._Worker.collect

    def swallowing(worker: ray_engine._Worker) -> list[tuple[ray_engine._Attempt, list[Drawn]]]:
        # Until the second group has killed the worker.
        if worker.drawing:
            ray.wait(list(worker.drawing), num_returns=len(worker.drawing), timeout=60)
        finished = collect(worker)
        if worker.failure is None:
            return finished
        # Ray swallows such an answer now and then; here it is always lost.
        worker.drawing = {object(): attempt for attempt, _ in finished} | worker.drawing
        return []

    monkeypatch.setattr(ray_engine._Worker, "collect", swallowing)
    engine = RayEngine(partial(NamesAsPictures, tmp_path, dies_of="1b"), workers=1)
    results = {group[0].name: drawn for group, drawn in engine.run(groups_of_two(3))}
    assert sum(path.read_text().splitlines().count("0a 0b") for path in tmp_path.iterdir()) == 2
    assert {name for name, drawn in results.items() if not isinstance(drawn[0], str)} == {"1a"}
    assert len(results) == 3


def test_models_that_cannot_be_loaded_end_the_run_with_their_error(cluster: str) -> None:
    with pytest.raises(InputError) as caught:
        list(RayEngine(refusing_to_load, workers=1).run(groups_of_two(2)))
    assert caught.value.problems == [Problem("no such file", "providers.0.checkpoint")]
    assert caught.value.__notes__[0].startswith("This is about loading the models on the node ")


def test_workers_that_die_while_loading_end_the_run(cluster: str) -> None:
    with pytest.raises(AMDMError, match="3 workers in a row died while loading: The actor died"):
        list(RayEngine(dying_while_loading, workers=1).run(groups_of_two(2)))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:1", "no Ray cluster can be reached at ray://127.0.0.1:1: Connection refused"),
        ("127.0.0.1:1", "no Ray cluster can be reached at 127.0.0.1:1: Connection refused"),
        ("head-node", "found the address 'head-node', expected auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_wrong_address_is_refused_at_once(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError) as caught:
        list(RayEngine(dying_while_loading, 1, address).run(groups_of_two(1)))
    assert str(caught.value) == message


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'amdm-framework\[ray\]'"):
        list(RayEngine(dying_while_loading, 1).run(groups_of_two(1)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a composition of the zoo's model and sixteen scenes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "composition.yaml").write_text(COMPOSITION)
    colors = ("red", "blue", "green", "yellow")
    captions = [
        f"a {first} circle on the left and a {second} square on the right" for first in colors for second in colors
    ]
    (tmp_path / "scenes.jsonl").write_text("\n".join(json.dumps({"caption": caption}) for caption in captions))
    return tmp_path


def amdm_batch(*arguments: str) -> None:
    given = ("batch", "composition.yaml", "--scenes", "scenes.jsonl", "--batch-size", "2", *arguments)
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.output


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def kill_a_drawing_worker(folder: Path, more_than: int, killed: list[int]) -> None:
    def drawing() -> psutil.Process | None:
        if len(pictures(folder)) <= more_than:
            return None
        children = psutil.Process().children(recursive=True)
        return next((child for child in children if "ray::_DrawingActor.draw" in " ".join(child.cmdline())), None)

    process = wait_until(drawing, 120)
    process.kill()
    killed.append(process.pid)


def test_batch_begun_locally_goes_on_with_ray_though_a_worker_is_killed(cluster: str, home: Path) -> None:
    amdm_batch("--output", "whole")
    # Half of a group is left.
    amdm_batch("--output", "resumed", "--limit", "3")
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_drawing_worker, args=(home / "resumed", 4, killed))
    killer.start()
    amdm_batch(
        "--output",
        "resumed",
        "--resume",
        "--engine",
        "ray",
        "--address",
        cluster,
        "--workers",
        "2",
        "--gpus-per-worker",
        "0",
    )
    killer.join()
    assert killed
    whole = pictures(home / "whole")
    assert pictures(home / "resumed") == whole and len(whole) == 16
    lines = [json.loads(line) for line in (home / "resumed" / "ledger.jsonl").read_text().splitlines()]
    assert sorted(line["file"] for line in lines if "file" in line) == sorted(whole)
    with Ledger(home / "whole") as one, Ledger(home / "resumed") as other:
        assert one.entries == other.entries


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own
def test_example_of_a_service_answers_scenes_with_pictures(cluster: str, home: Path) -> None:
    from ray import serve

    specification = importlib.util.spec_from_file_location("picture_service", EXAMPLES / "serve.py")
    assert specification is not None and specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    sys.modules["picture_service"] = example
    specification.loader.exec_module(example)
    ray.cloudpickle.register_pickle_by_value(example)

    def answer(body: str, seed: str = "7") -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/?seed={seed}", body.encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.headers["Content-Type"] == "image/png"
            return bytes(response.read())

    port = free_port()
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(example.app({"composition": str(home / "composition.yaml")}))
        (home / "answer.png").write_bytes(answer('{"caption": "a red circle on the left"}'))
        for body, seed, reason in (
            ('{"captoin": "a red circle"}', "7", "captoin: unknown key"),
            ("caption: a red circle", "7", "not valid JSON"),
            ('{"caption": "a red circle"}', "abc", "invalid literal for int() with base 10: 'abc'"),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                answer(body, seed)
            assert refused.value.code == 422 and reason in refused.value.read().decode()
    finally:
        serve.shutdown()
    record = read_record(home / "answer.png")
    assert record.seed == 7 and record.scene["caption"] == "a red circle on the left"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
