"""The pages that look inside, in a real browser, on the runs that ship and the whole data set."""

import shutil
from collections.abc import Iterator

import pytest
from browsing import ROOT, Lab, asked, hears_keys, opened, settled, visitor

from reid_core.data.pedestrians import render

pytestmark = pytest.mark.browser

PAGES = {
    "attention": ["transreid-demo", "rga-demo", "ohformer-demo"],
    "divergence": ["ohformer-demo", "vit-bot-demo"],
    "frequency": ["pha-demo", "resnet-bot-demo"],
    "clusters": ["nformer-demo"],
    "neighbours": ["nformer-demo", "transreid-demo"],
    "errors": ["transreid-demo"],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """The shipped runs beside the data that they were tested on."""
    lab = Lab(tmp_path_factory.mktemp("inside"))
    render(lab.data / "pedestrians")
    for run in (ROOT / "checkpoints").glob("*-*"):
        if (run / "weights.safetensors").is_file() and lab.run(run.name):
            shutil.copytree(run, lab.runs / run.name, ignore=shutil.ignore_patterns("studies"))
    lab.start()
    yield lab
    lab.stop()


def press(page, name: str, role: str = "button") -> None:
    page.get_by_role(role, name=name, exact=True).first.click()
    settled(page)


@pytest.mark.parametrize("name, run", [(name, run) for name, runs in PAGES.items() for run in runs])
def test_a_page_opens_and_its_steps_set_it(lab, browser, tmp_path, name, run):
    """Nothing breaks, nothing is wider than the screen, and a step says what to see."""
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}{name}?run={run}")
        page.wait_for_timeout(500)
        steps = page.locator("[class*='st-key-lesson-'] button")
        for step in range(steps.count()):
            steps.nth(step).click()
            settled(page)
            assert asked(page, "look") == str(step + 1)
            assert not page.get_by_test_id("stAlertContentError").count()
        page.screenshot(path=tmp_path / f"{name}-{run}.png", full_page=True)
        wide = "document.querySelector('[data-testid=stMain]')"
        assert page.evaluate(f"{wide}.scrollWidth <= {wide}.clientWidth")


def test_a_clicked_patch_is_the_token_of_every_map(lab, browser):
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}attention?run=transreid-demo&lens=Layers+and+heads&token=class")
        picture = page.locator(".st-key-maps .picture").first
        picture.scroll_into_view_if_needed()
        picture.click()
        page.wait_for_function("location.href.includes('token=row')")
        settled(page)
        link = page.evaluate("location.href")
        press(page, "Back to class")
        assert asked(page, "token") == "class"
        page.goto(link)
        page.locator(".st-key-maps .picture").first.wait_for()
        settled(page)
        assert page.get_by_role("combobox", name="Token").input_value().startswith("row")


def test_every_view_of_the_microscope(lab, browser):
    views = {"transreid-demo": ["Rollout", "Jigsaw", "Side information", "Why similar", "Deletion"]}
    views |= {"rga-demo": ["Gates", "On the person"], "ohformer-demo": ["Orders"]}
    with visitor(browser, 1440) as page:
        for run, names in views.items():
            opened(page, f"{lab.address}attention?run={run}")
            for name in names:
                press(page, name, "radio")
                page.wait_for_timeout(300)
                settled(page)
                assert asked(page, "lens") == name
                assert not page.get_by_test_id("stAlertContentError").count()


def test_the_projector(lab, browser):
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}frequency?run=pha-demo")
        hears_keys(page)
        page.keyboard.press("p")
        page.wait_for_function("location.href.includes('projector=1')")
        settled(page)
        assert not page.get_by_test_id("stSidebar").is_visible()
        page.locator(".st-key-leave-projector button").click()
        page.wait_for_function("!location.href.includes('projector=1')")
        page.get_by_test_id("stSidebar").wait_for()


def test_a_cut_off_by_keyboard(lab, browser):
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}frequency?run=resnet-bot-demo&part=One+query")
        query = asked(page, "query")
        slider = page.get_by_role("slider").first
        slider.focus()
        before = asked(page, "cutoff")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            f"new URL(location.href).searchParams.get('cutoff') != {before!r}".replace(
                "None", "null"
            )
        )
        settled(page)
        assert asked(page, "query") == query


def test_a_map_is_computed_and_a_point_picked(lab, browser):
    """PCA, which needs no warm-up: the layouts are the same to the page."""
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}clusters?run=resnet-bot-demo&map=PCA")
        stage = page.locator(".stage").first
        stage.wait_for()  # the study starts by itself
        settled(page)
        before = page.evaluate("location.href")
        stage.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_function(f"location.href != {before!r}")
        settled(page)


def test_tags_and_notes_stay(lab, browser):
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}errors?run=rga-demo")
        query = asked(page, "query")
        hears_keys(page)
        page.keyboard.press("x")
        settled(page)
        page.keyboard.press("j")
        settled(page)
        assert asked(page, "query") != query
    assert (lab.run("rga-demo").folder / "notes.json").is_file()
