"""The queue as visitors meet it: a sweep, one of it cancelled, the app restarted meanwhile."""

import re
import time
from collections.abc import Iterator

import pytest
from browsing import Lab, asked, opened, settled, visitor

from reid_core.jobs.sweeps import note_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.train("first")  # draws the data, too
    lab.start()
    yield lab
    lab.close()


def type_in(page, label: str, text: str) -> None:
    page.get_by_label(label).fill(text)
    page.keyboard.press("Enter")
    settled(page)


def state(page, name: str, word: str) -> None:
    """Wait until the queue says so of a run."""
    badge = re.compile(f"{word}$")  # behind its icon
    page.locator(f".st-key-job-{name} .stMarkdownBadge").get_by_text(badge).first.wait_for()


def press(page, button: str, name: str) -> None:
    settled(page)  # a row that has just moved stands in both places for a moment
    page.locator(f".st-key-{button}-{name} button").first.click()


@pytest.mark.long
def test_a_sweep_of_three_seeds_one_cancelled_the_app_restarted(lab, browser):
    names = [f"erasing-s{seed}" for seed in range(3)]
    with visitor(browser) as page:
        opened(page, lab.address + "train?view=New+training")
        for tab, values in {
            "Schedule": {"epochs": 500},
            "Batch": {"identities_per_batch": 4, "images_per_identity": 2},
            "Evaluation": {"evaluate_every": 1},
        }.items():
            page.get_by_role("tab", name=tab, exact=True).click()
            for knob, value in values.items():
                page.locator(f".st-key-knob-transreid-demo-{knob} input").fill(str(value))
                page.keyboard.press("Enter")
                settled(page)
        type_in(page, "Name of the run", "erasing")
        page.locator(".st-key-sweeping label").first.click()
        page.get_by_text(f"3 trainings: {', '.join(names)}.").wait_for()
        page.get_by_role("button", name="Queue 3 trainings").click()

        state(page, names[0], "running")
        assert asked(page, "view") == "Queue"
        state(page, names[1], "queued")
        press(page, "up", names[2])
        moved = page.locator(f".st-key-job-{names[2]}")
        moved.get_by_text("number 1 in the queue for cpu").wait_for()
        press(page, "cancel", names[1])
        state(page, names[1], "stopped")

    lab.stop()
    assert lab.run(names[0]).status().active and lab.run(names[2]).status().queued
    lab.run(names[0]).ask_stop()  # so that the queue has to move while no app is there
    for _ in range(600):
        if lab.run(names[2]).status().state == "running":
            break
        time.sleep(0.1)
    lab.start()

    with visitor(browser, width=900, scheme="dark") as page:
        opened(page, lab.address + "train?view=Queue")
        for name, word in zip(names, ("stopped", "stopped", "running"), strict=True):
            state(page, name, word)
        wide = "document.querySelector('[data-testid=stMain]')"
        assert page.evaluate(f"{wide}.scrollWidth <= {wide}.clientWidth")
        with visitor(browser) as other:  # several see the same
            opened(other, lab.address + "train?view=Queue")
            state(other, names[2], "running")
            press(other, "resume", names[1])
            state(other, names[1], "queued")
            state(page, names[1], "queued")
        press(page, "cancel", names[1])
        state(page, names[1], "stopped")
        page.goto(lab.address + "train?view=Sweep&sweep=erasing")
        for name, word in zip(names, ("stopped", "stopped", "running"), strict=True):
            page.get_by_text(f"{name}: {word}").wait_for()
        page.goto(lab.address + f"train?view=Watch&run={names[1]}")
        page.get_by_role("button", name="Resume training").wait_for()
    for seed, name in enumerate(names):
        run = lab.run(name)
        assert note_of(run) == dict(name="erasing", key="", value="", seed=seed)
        assert run.experiment.training.epochs == 500 and run.experiment.training.seed == seed


@pytest.mark.long
def test_a_clone_says_what_it_changes(lab, browser):
    with visitor(browser) as page:
        opened(page, lab.address + "train?view=Watch&run=first")
        page.get_by_role("button", name="Clone", exact=True).click()
        page.get_by_text("Against first: Nothing is changed.").wait_for()
        page.get_by_role("tab", name="Schedule", exact=True).click()
        page.locator(".st-key-knob-transreid-demo-epochs input").fill("2")
        page.keyboard.press("Enter")
        page.get_by_text("Against first: Changed: epochs 2 (was 1).").wait_for()
        type_in(page, "Name of the run", "twin")
        page.get_by_role("button", name="Start the training").click()
        page.get_by_text("Cloned from first. Changed: epochs 2 (was 1).").wait_for()
        page.get_by_text(re.compile("finished$")).wait_for()
    record = lab.run("twin").record["cloned_from"]
    assert record == dict(run="first", changes=dict(epochs=[1, 2]))
