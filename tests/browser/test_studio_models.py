"""Models that are added, filled in, put in order and aggregated by another rule, and what the page says of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from studio_page import StudioPage, soon

pytestmark = pytest.mark.browser

ONE_MODEL = {
    "providers": [{"use": "stable_diffusion", "checkpoint": "zoo://base"}],
    "sampler": {"steps": 10, "guidance_scale": 3},
}


def uses(studio_page: StudioPage) -> list[str]:
    """Return the providers in the order of the YAML view."""
    return [block["use"] for block in studio_page.composition()["providers"]]


def targets(studio_page: StudioPage) -> Any:
    """Return which members are called the target."""
    badges = studio_page.page.locator("[data-member] .badge", has_text="target")
    return badges.evaluate_all("all => all.map((one) => one.closest('[data-member]').dataset.member)")


def test_a_member_is_added_filled_in_and_removed(studio_page: StudioPage) -> None:
    studio_page.write("composition", ONE_MODEL)
    studio_page.verdict.get_by_text("10 evaluations a picture").wait_for()
    studio_page.page.get_by_label("Add a model").select_option("stable_diffusion")
    studio_page.problems("providers.1.checkpoint").get_by_text("is missing").wait_for()
    assert studio_page.key("providers.1.checkpoint").get_attribute("aria-invalid") == "true"
    assert studio_page.page.locator(".models [data-problems] .problem").count() == 1
    assert studio_page.draw_button.is_disabled()
    studio_page.key("providers.1.checkpoint").fill("zoo://base")
    # All of them by the first model, and three by the other: the standard window is 3 of 10 steps, 6 of 20.
    studio_page.verdict.get_by_text("13 evaluations a picture").wait_for()
    studio_page.verdict.get_by_text("These models fit").wait_for()
    assert studio_page.page.locator(".models [data-problems] .problem").count() == 0
    assert studio_page.draw_button.is_enabled()
    assert studio_page.composition()["providers"] == [*ONE_MODEL["providers"], *ONE_MODEL["providers"]]
    studio_page.key("sampler.steps").fill("20")
    studio_page.verdict.get_by_text("26 evaluations a picture").wait_for()
    studio_page.page.locator('[data-member="1"]').get_by_role("button", name="Remove stable_diffusion").click()
    studio_page.verdict.get_by_text("20 evaluations a picture").wait_for()
    assert studio_page.composition()["providers"] == ONE_MODEL["providers"]
    # The last one stays.
    assert studio_page.page.get_by_role("button", name="Remove stable_diffusion").is_disabled()


def test_members_are_put_in_order_and_the_first_is_the_target(studio_page: StudioPage) -> None:
    # All members in sight, for the mouse.
    studio_page.page.set_viewport_size({"width": 1280, "height": 1800})
    assert uses(studio_page) == ["interactdiffusion", "migc", "ip_adapter"]
    studio_page.page.get_by_role("button", name="Move migc up").click()
    soon(lambda: uses(studio_page), ["migc", "interactdiffusion", "ip_adapter"])
    assert targets(studio_page) == ["0"]
    # The options of a member go with it.
    assert studio_page.key("providers.0.checkpoint").input_value() == "zoo://migc"
    studio_page.page.get_by_role("button", name="Move interactdiffusion down").click()
    soon(lambda: uses(studio_page), ["migc", "ip_adapter", "interactdiffusion"])
    studio_page.page.locator('[data-member="2"] .grip').drag_to(studio_page.page.locator('[data-member="0"]'))
    soon(lambda: uses(studio_page), ["interactdiffusion", "migc", "ip_adapter"])
    assert targets(studio_page) == ["0"]
    assert studio_page.page.get_by_role("button", name="Move interactdiffusion up").is_disabled()
    assert studio_page.page.get_by_role("button", name="Move ip_adapter down").is_disabled()


def test_another_rule_shows_its_formula_and_its_options(studio_page: StudioPage) -> None:
    card = studio_page.page.locator('[data-part="aggregation"]')
    studio_page.key("aggregation.strategy").select_option("slerp")
    card.get_by_text("x = (sin((1-f) theta) x^1 + sin(f theta) x^2) / sin(theta)").wait_for()
    card.get_by_text("Spherical interpolation of the samples along their true angle").wait_for()
    soon(lambda: studio_page.composition()["aggregation"], {"strategy": "slerp"})
    assert card.locator("[data-key]").evaluate_all("all => all.map((one) => one.dataset.key)") == [
        "aggregation.strategy",
        "aggregation.steps",
        "aggregation.weights",
        "aggregation.window",
    ]
    # Values that are lists are typed as YAML.
    studio_page.key("aggregation.weights").fill("[0.5, 0.25]")
    studio_page.key("aggregation.steps").fill("4")
    soon(lambda: studio_page.composition()["aggregation"], {"strategy": "slerp", "weights": [0.5, 0.25], "steps": 4})
    studio_page.verdict.get_by_text("18 evaluations a picture").wait_for()


def test_wrong_values_are_told_at_their_fields(studio_page: StudioPage) -> None:
    studio_page.key("aggregation.strategy").select_option("slerp")
    soon(lambda: studio_page.composition()["aggregation"], {"strategy": "slerp"})
    for key, value, message in [
        ("aggregation.steps", "99", "the window ends at step 99, but the run has 10"),
        ("aggregation.weights", "[1, a", "a bracket is not closed"),
        ("sampler.eta", "7", "less than or equal to 1, found 7"),
        ("sampler.guidance_scale", "much", "expected a number, found 'much'"),
    ]:
        control = studio_page.key(key)
        before = control.input_value()
        control.fill(value)
        studio_page.problems(key).get_by_text(message).wait_for()
        assert control.get_attribute("aria-invalid") == "true"
        assert studio_page.draw_button.is_disabled()
        assert studio_page.page.locator(".models [data-problems] .problem").count() == 1
        control.fill(before)
        soon(studio_page.draw_button.is_enabled, True)
        assert control.get_attribute("aria-invalid") == "false"


def test_models_that_do_not_fit_are_told_apart(studio_page: StudioPage) -> None:
    studio_page.write("composition", ONE_MODEL)
    studio_page.page.get_by_label("Add a model").select_option("stable_diffusion")
    # In the folder that the studio was started with; it differs in its noise schedule alone.
    studio_page.key("providers.1.checkpoint").fill("other_schedule")
    studio_page.verdict.get_by_text("These models cannot be aggregated", exact=True).wait_for()
    table = studio_page.verdict.locator("pre").text_content() or ""
    assert "alphas_cumprod" in table and "latent channels" not in table
    assert studio_page.draw_button.is_disabled()
    # Alone it can be drawn with.
    studio_page.page.locator('[data-member="0"]').get_by_role("button", name="Remove stable_diffusion").click()
    studio_page.verdict.get_by_text("Ready").wait_for()
    assert studio_page.draw_button.is_enabled()


def test_files_elsewhere_on_the_machine_are_refused(studio_page: StudioPage) -> None:
    studio_page.key("providers.0.checkpoint").fill("/etc/passwd")
    studio_page.problems("providers.0.checkpoint").get_by_text("leads out of the folders").wait_for()
    assert studio_page.draw_button.is_disabled()
    studio_page.key("providers.0.checkpoint").fill("zoo://migg")
    studio_page.problems("providers.0").get_by_text("Did you mean 'migc'?").wait_for()


def test_the_form_follows_its_yaml_and_the_yaml_the_form(studio_page: StudioPage) -> None:
    panel = studio_page.panel("Models")
    panel.get_by_role("button", name="YAML").click()
    text = panel.get_by_label("composition as YAML")
    text.fill("providers:\n- use: stable_diffusion\n  checkpoint: zoo://base\n  condition: {prompt: a star\n")
    panel.locator(".yaml-editor .problem", has_text="line").first.wait_for()
    assert studio_page.draw_button.is_disabled()
    # A key that there is not: its place, and the nearest that there is.
    text.fill("providers:\n- {use: stable_diffusion, checkpont: zoo://base}\n")
    panel.locator(".yaml-editor .problem", has_text="checkpont").get_by_text("Did you mean 'checkpoint'?").wait_for()
    text.fill(
        "providers:\n- {use: stable_diffusion, checkpoint: zoo://base, condition: {prompt: a star}}\nsampler: {steps: 7}\n"
    )
    panel.get_by_role("button", name="Form", exact=True).click()
    studio_page.verdict.get_by_text("7 evaluations a picture").wait_for()
    assert studio_page.page.locator("[data-member]").count() == 1
    assert studio_page.key("sampler.steps").input_value() == "7"
    assert studio_page.key("providers.0.condition.prompt").input_value() == "a star"
    studio_page.key("sampler.steps").fill("9")
    panel.get_by_role("button", name="YAML").click()
    soon(lambda: yaml.safe_load(text.input_value())["sampler"]["steps"], 9)


def test_an_example_is_begun_with(studio_page: StudioPage) -> None:
    studio_page.page.get_by_label("Begin with").select_option("Two models: interactions and colours.")
    soon(lambda: uses(studio_page), ["interactdiffusion", "migc"])
    assert list(studio_page.scene()["instances"]) == ["star", "circle"]
    studio_page.verdict.get_by_text("13 evaluations a picture").wait_for()
