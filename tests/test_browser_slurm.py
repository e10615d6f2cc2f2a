"""From the browser: a training sent to a real Slurm, watched there, cancelled and stopped."""

import re
import time
from collections.abc import Iterator

import pytest
from browsing import PATIENCE, Lab, opened, settled, visitor
from cluster import Cluster, lacking
from playwright.sync_api import expect

from reid_core.jobs import queue

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        lab = Lab(tmp_path_factory.mktemp("lab"))
        lab.train("first")  # draws the data, too
        lab.environment |= cluster.environment
        lab.start()
        yield lab
        lab.close()
    finally:
        cluster.stop()


def fill(page, tab: str, place: str, **values) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()
    for knob, value in values.items():
        page.locator(f".st-key-knob-{place}-{knob} input").fill(str(value))
        page.keyboard.press("Enter")
        settled(page)


def choose_slurm(page) -> None:
    field = page.locator(".st-key-where input")
    field.scroll_into_view_if_needed()
    page.wait_for_timeout(300)  # a menu that opens while the page still scrolls closes again
    field.click()
    page.get_by_role("option", name="Slurm", exact=True).click()
    settled(page)


def named(page, name: str) -> None:
    page.get_by_label("Name of the run").fill(name)


def test_a_training_on_slurm(lab, browser):
    with visitor(browser, width=1440) as page:
        opened(page, lab.address + "train?view=New+training")
        fill(page, "Schedule", "transreid-demo", epochs=500)
        fill(page, "Batch", "transreid-demo", identities_per_batch=4, images_per_identity=2)
        named(page, "refused")
        choose_slurm(page)
        fill(page, "Machines", "where-slurm", partition="nowhere", processes=2)
        page.get_by_role("button", name="Start the training").click()
        page.get_by_text("invalid partition specified: nowhere").first.wait_for()
        assert not (lab.runs / "refused").exists()

        fill(page, "Machines", "where-slurm", partition="debug")
        named(page, "job")
        page.get_by_role("button", name="Start the training").click()
        page.get_by_text(re.compile(r"Running on Slurm, job \d+, ")).wait_for()
        page.get_by_text(re.compile(r"Epoch [1-9]\d* of 500, step [1-9]")).wait_for()
        page.get_by_text(re.compile("running$")).first.wait_for()
        run = lab.run("job")
        assert run.experiment.training.devices == 2 and "2 processes" in run.log_tail()
        number = queue.job_of(run)["number"]

        with visitor(
            browser, width=900, scheme="dark"
        ) as other:  # another session, its form filled
            opened(other, lab.address + "train?view=New+training&where=slurm")
            field = other.locator(".st-key-knob-where-slurm-partition input")
            expect(field).to_have_value("debug", timeout=PATIENCE)
            fill(other, "Batch", "transreid-demo", identities_per_batch=4, images_per_identity=2)
            named(other, "waits")
            other.get_by_role("button", name="Start the training").click()
            words = r"Waits: pending on Slurm, job \d+ \(\w+\)\."
            other.get_by_text(re.compile(words)).wait_for()
            other.wait_for_url(re.compile("run=waits"))  # written when the page is through
            other.locator(".st-key-cancel-waits button").first.click()
            other.get_by_role("button", name="Resume training").wait_for()
        assert lab.run("waits").status().state == "stopped"

        page.goto(lab.address + "train?view=Queue")
        row = page.locator(".st-key-job-job")
        row.get_by_text(re.compile(f"running on Slurm, job {number}")).wait_for()
        page.locator(".st-key-stop-job button").first.click()
        row.get_by_text(re.compile("stopped$")).first.wait_for()
        page.goto(lab.address + "train?view=Watch&run=job")
        page.get_by_role("button", name="Resume training").click()
        page.get_by_text(re.compile(r"Running on Slurm, job \d+, ")).wait_for()
        assert queue.job_of(lab.run("job"))["number"] != number
        page.get_by_role("button", name="Stop training").click()
        page.get_by_text(re.compile("stopped$")).first.wait_for()
    time.sleep(1)
    assert lab.run("job").status().state == "stopped"
