"""A studio that other machines reach: nothing but the login is answered before the login, and nothing that guesses helps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from http.cookies import SimpleCookie

import pytest
from served import Web, component_of, serving
from studios import make_studio, picture_bytes

from amdm_framework.plugins import PluginRegistry
from amdm_framework.studio.app import USER

PASSWORD = "correct horse battery"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, plugins: PluginRegistry) -> Iterator[Web]:
    """A studio with a password, as if it was bound to an address of a network."""
    made = make_studio(tmp_path_factory.mktemp("studio"), plugins, draw=lambda job: None)
    with serving(made, host="192.168.0.5", password=PASSWORD) as served:
        yield served
    made.jobs.close()


def log_in(web: Web, user: str = USER, password: str = PASSWORD, **headers: str) -> SimpleCookie:
    """Log in and return the cookies that came."""
    body = f"username={user}&password={password.replace(' ', '+')}".encode()
    answer = web.request("POST", "/login", body, **{"Content-Type": FORM, **headers})
    return SimpleCookie(answer.headers.get("set-cookie", "") if answer.status == 200 else "")


@pytest.fixture
def inside(outside: Web) -> Web:
    """The same, after the login."""
    cookie = "; ".join(f"{one.key}={one.value}" for one in log_in(outside).values())
    web = replace(outside, cookie=cookie)
    web.component = component_of(web)
    return web


def test_nothing_before_the_login(outside: Web) -> None:
    assert outside.get("/config").status == 401
    assert outside.get("/gradio_api/login_check").status == 401
    for component in range(4):
        for function in ("open", "check", "gallery", "picture"):
            assert outside.call(function, {}, component=component).status == 401
    assert outside.upload(picture_bytes()).status == 401
    assert outside.studio.arrived() == []
    # Neither what is installed nor what it can be asked.
    page = outside.get("/").text
    assert '"auth_required":true' in page.replace(" ", "")
    for word in ("interactdiffusion", "add_picture", "js_on_load", "server_fns"):
        assert word not in page


@pytest.mark.parametrize(
    "cookie",
    [
        "access-token=x",
        "access-token-unsecure=x",
        "session=x",
        "{name}=",
        "{name}=null",
        "{name}=amdm",
        "{name}=undefined",
        "{name}=0",
    ],
)
def test_cookies_that_are_made_up(outside: Web, cookie: str) -> None:
    (name, *_) = log_in(outside)
    web = replace(outside, cookie=cookie.format(name=name))
    assert web.get("/config").status == 401 and web.call("open", {}).status == 401


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (USER, ""), (USER, "wrong"), (USER, PASSWORD[:-1]), (USER, PASSWORD + "x"), (USER, PASSWORD.upper()), ("admin", PASSWORD),
        ("", PASSWORD), (USER, "x" * 100_000), (USER, "%00"), (PASSWORD, USER), (USER, "' OR 1=1"), ("AMDM", PASSWORD),
    ],
)  # fmt: skip
def test_wrong_names_and_passwords(outside: Web, user: str, password: str) -> None:
    assert not log_in(outside, user, password)


def test_a_login_without_a_form(outside: Web) -> None:
    body = json.dumps({"username": USER, "password": PASSWORD}).encode()
    assert outside.request("POST", "/login", body, Content_Type="application/json").status == 415
    assert outside.get(f"/login?username={USER}&password={PASSWORD.replace(' ', '%20')}").status == 404
    assert outside.request("POST", "/login", b"", Content_Type=FORM).status == 422


def test_after_the_login(inside: Web) -> None:
    session = inside.ask("open")["session"]
    (path,) = json.loads(inside.upload(picture_bytes()).body)
    assert "image" in inside.ask("add_picture", session=session, path=path, name="x.png")
    assert inside.get("/config").status == 200


def test_cookies_are_not_for_scripts(outside: Web) -> None:
    cookies = log_in(outside)
    assert cookies
    for cookie in cookies.values():
        assert cookie["httponly"] and len(cookie.value) >= 20
    assert {cookie.value for cookie in log_in(outside).values()}.isdisjoint(cookie.value for cookie in cookies.values())


def test_pages_elsewhere_can_use_no_login(inside: Web) -> None:
    # Whatever name the network has for this machine is right, but not another page's.
    for host in ("studio.example", "192.168.0.5:7860"):
        assert inside.call("open", {}, Host=host, Origin=f"http://{host}").status == 200
        for origin in ("http://evil.example", "null", f"http://evil.{host}"):
            assert inside.call("open", {}, Host=host, Origin=origin).status == 403
            assert inside.upload(picture_bytes(), Host=host, Origin=origin).status == 403
            assert inside.get("/config", Host=host, Origin=origin).status == 403
            assert not log_in(inside, Host=host, Origin=origin)
    # Nor log everybody out, which a picture of theirs could ask for.
    assert inside.get("/logout").status == 404 and inside.get("/config").status == 200


def test_other_pages_of_the_same_studio(inside: Web) -> None:
    first, second = inside.ask("open")["session"], inside.ask("open")["session"]
    assert first != second
    assert inside.ask("jobs", session=first) == {"jobs": []}
    assert inside.ask("jobs", session=first[::-1])["error"]


def test_files_stay_closed_after_the_login(inside: Web) -> None:
    for path in (
        "/gradio_api/file=/etc/passwd",
        f"/gradio_api/file={inside.studio.output}/x.png",
        "/gradio_api/proxy=http://x/",
    ):
        assert inside.get(path).status == 404


def test_the_form_that_the_page_sends(outside: Web) -> None:
    lines = []
    for name, value in (("username", USER), ("password", PASSWORD)):
        lines += ["--edge", f'Content-Disposition: form-data; name="{name}"', "", value]
    body = "\r\n".join([*lines, "--edge--", ""]).encode()
    answer = outside.request("POST", "/login", body, Content_Type="multipart/form-data; boundary=edge")
    assert answer.status == 200 and "set-cookie" in answer.headers
