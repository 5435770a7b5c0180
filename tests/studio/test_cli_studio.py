"""`amdm studio`: what it says where it cannot start, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from studios import COMPOSITION, SCENE

from amdm_framework.cli.studio import PASSWORD_VARIABLE, SHORTEST_PASSWORD
from command_line import invoke


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, and a folder for temporary files that has to be empty in the end."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path / "home")
    Path("composition.yaml").write_text(yaml.safe_dump(COMPOSITION))
    Path("scene.yaml").write_text(yaml.safe_dump(SCENE))
    yield tmp_path / "home"
    assert list((tmp_path / "temporary").iterdir()) == []


def refused(*arguments: str) -> str:
    """Return the message of a studio that does not start."""
    result = invoke("studio", "--device", "cpu", *arguments, code=2)
    assert "Traceback" not in result.output and result.stdout == ""
    return result.stderr


def test_help() -> None:
    text = invoke("studio", "--help").stdout
    for word in ("COMPOSITION", "--scene", "--host", "--port", "--output", "--models", "--open", PASSWORD_VARIABLE):
        assert word in text


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.0.5", "example.org", "127.0.0.1.example.org", "127.example.org", ""]
)
def test_others_get_in_with_a_password_only(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PASSWORD_VARIABLE in refused("--host", host)
    for password in ("", "x" * (SHORTEST_PASSWORD - 1)):
        monkeypatch.setenv(PASSWORD_VARIABLE, password)
        assert f"expected {SHORTEST_PASSWORD} at least" in refused("--host", host)


def test_a_password_that_is_too_short_is_refused_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "short")
    message = refused()
    assert f"5 characters, expected {SHORTEST_PASSWORD}" in message and "'short'" not in message


def test_a_scene_goes_with_a_composition() -> None:
    assert "--scene goes with COMPOSITION" in refused("--scene", "scene.yaml")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = refused("composition.yaml", "--port", port)
        assert f"cannot listen at 127.0.0.1, port {port}" in message and "--port" in message


def test_addresses_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "x" * SHORTEST_PASSWORD)
    for host in ("203.0.113.7", "no-such-name.invalid"):
        assert f"cannot listen at {host}" in refused("--host", host, "--port", "0")
    for port in ("-1", "65536", "x"):
        assert "--port" in refused("--port", port)


@pytest.mark.parametrize("package", ["gradio", "matplotlib"])
def test_packages_that_are_missing(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install" in refused()


def test_mistakes_of_what_it_is_started_with() -> None:
    Path("bad.yaml").write_text("providers: [{use: nothing}]\n")
    assert "bad.yaml: providers.0.use" in refused("bad.yaml")
    assert "none.yaml: no such file" in refused("none.yaml")
    assert "none.yaml: no such file" in refused("composition.yaml", "--scene", "none.yaml")
    assert "swapped" in refused("scene.yaml", "--scene", "composition.yaml")
    assert "--models" in refused("--models", "none")
    assert "scene.yaml: is a file, expected a folder" in refused("--output", "scene.yaml")
    assert "no-such-device" in refused("--device", "no-such-device")


def test_it_runs_until_it_is_interrupted(home: Path) -> None:
    """One in a process of its own: it says where it is, draws, and goes in the middle of that without a trace."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [
        Path(sys.executable).with_name("amdm"),
        "studio",
        "composition.yaml",
        "--scene",
        "scene.yaml",
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--device", "cpu"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"studio: (http://127\.0\.0\.1:\d+)\n", said)
        assert found, said
        (temporary,) = (home.parent / "temporary").glob("amdm-studio-*")
        # Nobody else of this machine reads what arrives.
        assert temporary.stat().st_mode & 0o077 == 0

        def ask(function: str, **data: object) -> dict[str, object]:
            body = json.dumps(
                {"data": data, "component_id": component, "fn_name": function, "session_hash": "a"}
            ).encode()
            request = urllib.request.Request(
                f"{found[1]}/gradio_api/component_server", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))

        with urllib.request.urlopen(f"{found[1]}/config", timeout=30) as answer:
            component = next(one["id"] for one in json.load(answer)["components"] if one["props"].get("server_fns"))
        opened = ask("open")
        assert opened["starts"][0]["title"] == "composition.yaml"  # type: ignore[index]
        long = {**COMPOSITION, "sampler": {"steps": 500, "guidance_scale": 3}}
        for _ in range(2):
            assert "job" in ask("draw", session=opened["session"], composition=long, scene=SCENE, seeds=["1"])
        end = time.monotonic() + 30
        while ask("jobs", session=opened["session"])["jobs"][0]["step"] == 0:  # type: ignore[index]
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode in (0, 130) and "Traceback" not in errors and "Error" not in errors, errors
        assert not list(Path("studio").glob("*.png"))
    finally:
        process.kill()
        process.wait()
