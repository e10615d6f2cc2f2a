"""The app as a visitor meets it: a real server, a real browser, and no error in its console."""

import json
import re
import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest
from browsing import Lab, asked, hears_keys, opened, pressed, settled, visitor

from reid_core.data import open_dataset
from reid_core.evaluate import distances
from reid_core.experiment import recipe_values
from reid_core.knobs import knobs_of
from reid_core.models import MODELS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab with a space"))
    lab.start()
    yield lab
    lab.close()


def start(page, model: str, name: str, knobs: dict[str, dict]) -> None:
    """Start a training on the Train page with knobs, by tab, changed; wait until it is at work."""
    for tab, values in knobs.items():
        page.get_by_role("tab", name=tab, exact=True).click()
        for knob, value in values.items():
            page.locator(f".st-key-knob-{model}-demo-{knob} input").fill(str(value))
            page.keyboard.press("Enter")
            settled(page)
    page.get_by_label("Name of the run").fill(name)
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_role("button", name="Start the training").click()
    page.get_by_text("Images per second", exact=True).wait_for()


@pytest.fixture(scope="module")
def ready(lab, browser) -> Lab:
    """A lab whose data are drawn and which has a finished run."""
    if not lab.data.exists():
        with visitor(browser) as page:
            opened(page, lab.address)
            page.get_by_text("Whose is what").wait_for()
    lab.train("first")
    return lab


def test_first_start_draws_the_data_once_for_everybody(lab, browser):
    with visitor(browser) as one, visitor(browser) as other:
        one.goto(lab.address)
        other.goto(lab.address)
        for page in (one, other):
            page.get_by_text("Whose is what").wait_for()
            assert page.get_by_text("No run yet").count()
    assert [folder.name for folder in lab.data.iterdir()] == ["pedestrians"]
    # The renderer says on its output where it drew: once.
    assert lab.log.read_text().count(f"{lab.data / 'pedestrians'}") == 1


@pytest.mark.timeout(900)  # trainings give way, to other tests too
def test_a_training_started_watched_stopped_and_resumed(ready, browser):
    with visitor(browser) as page:
        opened(page, ready.address + "train?view=New+training")
        batch = {"identities_per_batch": 4, "images_per_identity": 2}
        knobs = {"Schedule": {"epochs": 500}, "Batch": batch, "Evaluation": {"evaluate_every": 1}}
        start(page, "transreid", "watched", knobs)
        page.get_by_text("Learning rate", exact=True).wait_for()  # the curves of the first epoch
        assert asked(page, "run") == "watched"

        address = page.url
        page.reload()
        page.get_by_text("Images per second", exact=True).wait_for()
        with visitor(browser) as other:
            opened(other, address)
            other.get_by_text("Images per second", exact=True).wait_for()

    # The app goes, the training stays, and the next app finds it.
    ready.stop()
    before = ready.run("watched").status()
    time.sleep(3)
    after = ready.run("watched").status()
    assert after.active and (after.epoch, after.step) != (before.epoch, before.step)
    ready.start()

    with visitor(browser) as page:
        opened(page, address)
        page.get_by_role("button", name="Stop training").click()
        page.get_by_role("button", name="Resume training").wait_for()
        stopped = ready.run("watched").status()
        assert stopped.state == "stopped" and len(ready.run("watched").history()) >= 1

        page.get_by_role("button", name="Resume training").click()
        page.get_by_text("Images per second", exact=True).wait_for()
        page.get_by_text(re.compile(r"Epoch \d+ of 500, step")).wait_for()
        going = lambda: ready.run("watched").status()  # noqa: E731
        while (going().epoch, going().step) <= (stopped.epoch, stopped.step):  # from where it stood
            time.sleep(0.5)
        page.get_by_role("button", name="Stop training").click()
        page.get_by_role("button", name="Resume training").wait_for()
        again = ready.run("watched").status()
        assert again.state == "stopped"
        assert (again.epoch, again.step) >= (stopped.epoch, stopped.step)


# The form of each is read in test_app, without a browser and a training.
@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_each_model_starts_with_a_knob_of_its_own(ready, browser, model):
    """Its last own knob that is a number, changed in the form, reaches a training that works."""
    numbers = [k for k in knobs_of(MODELS[model].Options) if k.kind in ("int", "float")]
    knob, usual = numbers[-1], recipe_values(model, "demo")
    value = usual[knob.name] + 1 if knob.kind == "int" else 0.25
    knobs = {knob.group: {knob.name: value}, "Schedule": {"epochs": 500}}
    with visitor(browser) as page:
        opened(page, ready.address + "train?view=New+training")
        page.get_by_role("combobox", name="Model").click()
        page.get_by_role("option", name=MODELS[model].title, exact=True).click()
        settled(page)
        start(page, model, f"{model}-own", knobs | {"Batch": {"identities_per_batch": 4}})
    run = ready.run(f"{model}-own")
    run.ask_stop()
    assert run.experiment.model == model
    expected = {knob.name: value, "epochs": 500, "identities_per_batch": 4}
    assert run.experiment.changed == expected


@pytest.mark.long
def test_nformer_goes_through_both_stages(ready, browser):
    knobs = {
        "Second stage": {"passes": 3},
        "Schedule": {"epochs": 2},
        "Evaluation": {"evaluate_every": 1},
    }
    with visitor(browser) as page:
        opened(page, ready.address + "train?view=New+training")
        page.get_by_role("combobox", name="Model").click()
        page.get_by_role("option", name="NFormer", exact=True).click()
        settled(page)
        start(page, "nformer", "two-stages", knobs | {"Batch": {"identities_per_batch": 4}})
        page.get_by_text(re.compile("finished$")).wait_for()
        page.reload()
        done = page.get_by_test_id("stMetric").filter(has_text="Epochs done")
        done.get_by_text("5", exact=True).wait_for()
        page.goto(ready.address + "retrieval?run=two-stages")
        page.get_by_role("list", name="Ranked gallery").wait_for()
    run = ready.run("two-stages")
    assert run.refined and len(run.history()) == 5


def test_queries_by_keyboard_and_a_link_to_one(ready, browser):
    with visitor(browser) as page:
        opened(page, ready.address + "retrieval?run=first")
        hears_keys(page)
        first = asked(page, "query")
        pressed(page, "ArrowRight", f"!location.href.includes('{first}')")
        settled(page)
        second = asked(page, "query")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"!location.href.includes('{second}')")
        settled(page)
        page.keyboard.press("ArrowLeft")
        page.wait_for_function(f"location.href.includes('{second}')")
        settled(page)
        page.get_by_role("group", name="Queries").get_by_role("button").first.click()
        page.wait_for_function(f"location.href.includes('{first}')")
        settled(page)
        page.keyboard.press("w")
        page.wait_for_function("location.href.includes('Worst')")
        settled(page)
        query, address = asked(page, "query"), page.evaluate("location.href")
        gallery = page.get_by_role("list", name="Ranked gallery")
        tiles = gallery.get_by_role("listitem")
        names = tiles.evaluate_all("all => all.map(tile => tile.getAttribute('aria-label'))")
        assert names[0].startswith("rank 1, ") and len(names) == 20

        # Inside the gallery the arrows walk along the tiles and leave the query alone.
        tiles.first.focus()
        page.keyboard.press("ArrowRight")
        settled(page)
        assert asked(page, "query") == query
        walked = gallery.evaluate("list => list.getRootNode().activeElement.ariaLabel")
        assert walked == names[1]

    with visitor(browser) as page:
        opened(page, address)
        page.get_by_alt_text(f"Query {query}").wait_for()
        tiles = page.get_by_role("list", name="Ranked gallery").get_by_role("listitem")
        assert tiles.evaluate_all("all => all.map(tile => tile.ariaLabel)") == names


def test_one_press_of_back_undoes_one_choice(ready, browser):
    """Though a choice may move another one, as the order moves the query."""
    with visitor(browser) as page:
        opened(page, ready.address + "retrieval?run=first")
        before, steps = page.url, page.evaluate("history.length")
        for choice, key in (("Worst first", "order"), ("50", "ranks")):
            page.get_by_role("radio", name=choice, exact=True).click()
            page.wait_for_function(f"location.href.includes('{key}={choice.replace(' ', '+')}')")
            settled(page)
        page.get_by_text("Ghosts", exact=True).click()
        page.wait_for_function("location.href.includes('ghosts=true')")
        settled(page)
        assert page.evaluate("history.length") == steps + 3
        page.go_back()
        page.wait_for_function("!location.href.includes('ghosts')")
        settled(page)
        assert not page.get_by_role("switch", name="Ghosts").is_checked()
        page.go_back()
        page.wait_for_function("location.href.includes('ranks=20')")
        settled(page)
        page.go_back()
        page.wait_for_url(before)
        settled(page)
        assert page.url == before
        assert page.get_by_role("radio", name="File name").get_attribute("aria-checked") == "true"


def test_one_press_of_back_leaves_a_page(ready, browser):
    """Though the page that the menu led to has completed its address."""
    with visitor(browser) as page:
        opened(page, ready.address + "retrieval?run=first")
        before, steps = page.url, page.evaluate("history.length")
        page.get_by_test_id("stSidebarNav").get_by_text("Ledger", exact=True).click()
        page.wait_for_function("location.href.includes('ledger?run=first')")
        settled(page)
        assert page.evaluate("history.length") == steps + 1
        page.go_back()
        page.wait_for_url(before)
        settled(page)
        assert page.url == before


def test_a_link_from_home_keeps_its_run(ready, browser):
    with visitor(browser) as page:
        opened(page, ready.address)
        page.get_by_role("link", name="See every query").click()
        page.get_by_role("list", name="Ranked gallery").wait_for()
        settled(page)
        assert asked(page, "query") and page.url.count("run=") == 1


def test_ghosts_appear_on_the_switch(ready, browser):
    with visitor(browser) as page:
        opened(page, ready.address + "retrieval?run=first")
        page.get_by_text("Ghosts").click()
        page.get_by_text("ignored by the protocol").wait_for()


def test_an_upload(ready, browser, tmp_path):
    fake = tmp_path / "fake.jpg"
    fake.write_text("no picture")
    picture = next((ready.data / "pedestrians" / "query").glob("*.jpg"))
    with visitor(browser) as page:
        opened(page, ready.address + "retrieval?run=first")
        page.get_by_text("Upload", exact=True).first.click()
        page.get_by_text("A picture of one person").wait_for()
        page.locator("input[type=file]").set_input_files(fake)
        page.get_by_text("JPEG, PNG or WebP picture").wait_for()
        page.locator("input[type=file]").set_input_files(picture)
        page.get_by_alt_text(f"Query {picture.name}").wait_for()
        page.get_by_text("mean camera embedding").wait_for()


def test_an_imported_run_and_pictures_of_ones_own(ready, browser, tmp_path):
    run = ready.run("brought")
    shutil.copytree(
        ready.runs / "first", run.folder, ignore=shutil.ignore_patterns("embed*", "me*")
    )
    record = json.loads((run.folder / "experiment.json").read_text())
    record["imported"] = dict(file="transformer_120.pth", sha256="ab" * 32)
    run.write("experiment.json", json.dumps(record).encode())
    pictures = sorted((ready.data / "pedestrians" / "query").glob("*.jpg"))[:4]
    fake = tmp_path / "fake.jpg"
    fake.write_text("no picture")
    with visitor(browser) as page:
        opened(page, ready.address)
        page.get_by_text("imported", exact=True).first.wait_for()
        page.get_by_role("link", name="Your pictures").click()
        page.get_by_text("nothing is scored yet").wait_for()
        files = page.locator("input[type=file]")
        files.nth(0).set_input_files(pictures[0])
        settled(page)
        files.nth(1).set_input_files([*pictures[1:], fake])
        page.get_by_text("Left out fake.jpg").wait_for()
        tiles = page.get_by_role("list", name="Ranked gallery").get_by_role("listitem")
        tiles.nth(2).wait_for()
        settled(page)
        names = tiles.evaluate_all("all => all.map(tile => tile.ariaLabel)")
        assert len(names) == 3 and all("truth unknown" in name for name in names)
    shutil.rmtree(run.folder)


def test_nobody_in_a_gallery_of_ones_own_is_like_the_query(ready, browser):
    """The person whom the model finds least like the query: no match. The same picture: a match."""
    found = ready.run("first").embeddings()
    queries, gallery = found.query_rows, found.gallery_rows
    away = distances(found.directions[queries], found.directions[gallery])
    query, farthest = np.unravel_index(away.argmax(), away.shape)
    dataset = open_dataset("pedestrians", ready.data / "pedestrians")
    query, stranger = dataset.query.paths[query], dataset.gallery.paths[farthest]
    with visitor(browser) as page:
        opened(page, f"{ready.address}retrieval?run=first&far=1+%25")
        page.get_by_text("Your pictures", exact=True).first.click()
        page.get_by_text("The gallery: up to").wait_for()
        files = page.locator("input[type=file]")
        files.nth(0).set_input_files(query)
        settled(page)
        files.nth(1).set_input_files(stranger)
        page.get_by_text("No match: the nearest is at").wait_for()
        words = page.get_by_text("No match: the nearest is at").inner_text()
        nearest, limit = (float(each) for each in re.findall(r"\d+\.\d{3}", words))
        assert nearest >= limit > 0
        page.get_by_text("It was not measured on your pictures").wait_for()
        files.nth(1).set_input_files(query)
        page.get_by_text("Match by the threshold: the nearest is at 0.000").wait_for()


@pytest.mark.parametrize(
    "width, scheme",
    [
        (1280, "light"),
        pytest.param(1920, "dark", marks=[pytest.mark.long]),
        pytest.param(1280, "dark", marks=[pytest.mark.long]),
        pytest.param(1920, "light", marks=[pytest.mark.long]),
    ],
)
def test_screens(ready, browser, tmp_path, width, scheme):
    """Nothing is wider than its screen; the pictures stay in the test's folder to be looked at."""
    with visitor(browser, width, scheme) as page:
        for name in ("home", "train", "retrieval"):
            opened(page, f"{ready.address}{'' if name == 'home' else name}?run=first")
            page.wait_for_timeout(800)
            page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png")
            wide = "document.querySelector('[data-testid=stMain]')"
            assert page.evaluate(f"{wide}.scrollWidth <= {wide}.clientWidth")
