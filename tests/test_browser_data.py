"""From a folder to scores, as a visitor meets it: CUHK03's .mat doctored, trained on, evaluated."""

from collections.abc import Iterator

import pytest
from browsing import Lab, asked, opened, settled, visitor
from layouts import build

from reid_core.data.pedestrians import render

pytestmark = pytest.mark.browser

SMALL = {
    "Schedule": {"epochs": 1},
    "Batch": {"identities_per_batch": 4, "images_per_identity": 2},
    "Evaluation": {"evaluate_every": 1},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    lab = Lab(folder)
    render(lab.data / "pedestrians", identities=12, cameras=3, size=(64, 32))
    build("cuhk03-mat", lab.data / "pedestrians", folder / "sets" / "cuhk03")
    lab.start()
    yield lab
    lab.close()


def fill(page, label: str, text: str) -> None:
    page.get_by_role("textbox", name=label, exact=True).fill(text)
    page.keyboard.press("Enter")
    settled(page)


@pytest.mark.long
def test_cuhk03_in_one_file_is_checked_trained_on_and_evaluated(lab, browser):
    sets = lab.data.parent / "sets"
    with visitor(browser) as page:
        opened(page, lab.address + "data")
        page.get_by_role("heading", name="Pedestrians (synthetic)").wait_for()
        fill(page, "Folder", str(sets))
        page.get_by_role("heading", name="CUHK03-NP (labeled)").wait_for()
        assert asked(page, "folder") == str(sets)
        assert "whose images need unpacking once" in page.content()

        page.get_by_role("button", name="Check every image").click()
        page.get_by_text("Nothing prevents training").wait_for()
        page.get_by_text("published are 7,368 of 767").wait_for()
        page.get_by_text("images of this identity in this split").wait_for()
        page.get_by_role("button", name="Next", exact=True).click()
        settled(page)
        assert asked(page, "identity") == "2"
        address = page.url

        page.get_by_role("link", name="Train on this").click()
        page.get_by_role("button", name="Start the training").wait_for()
        settled(page)
        assert asked(page, "dataset") == "cuhk03-labeled"
        assert page.get_by_role("textbox", name="Folder of the images").input_value() == str(
            sets / "cuhk03"
        )
        for tab, values in SMALL.items():
            page.get_by_role("tab", name=tab, exact=True).click()
            for knob, value in values.items():
                page.locator(f".st-key-knob-transreid-demo-{knob} input").fill(str(value))
                page.keyboard.press("Enter")
                settled(page)
        fill(page, "Name of the run", "cuhk")
        page.get_by_role("button", name="Start the training").click()
        page.get_by_test_id("stMetric").filter(has_text="Rank-1").filter(has_text=".").wait_for()

        page.goto(lab.address + "retrieval?run=cuhk")
        page.get_by_role("list", name="Ranked gallery").wait_for()
    run = lab.run("cuhk")
    assert run.experiment.dataset == "cuhk03-labeled"
    assert 0 <= run.metrics()["mAP"] <= 1

    with visitor(browser, scheme="dark") as page:  # the link shows another visitor the same
        opened(page, address)
        page.get_by_text("Nothing prevents training").wait_for()
        assert asked(page, "identity") == "2"
