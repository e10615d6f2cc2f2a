"""The pages that look inside, in a real browser, on the runs that ship and the whole data set."""

import math
import shutil
import time
from collections.abc import Iterator

import pytest
from browsing import ROOT, Lab, asked, hears_keys, opened, settled, visitor

from reid_core import notes
from reid_core.data.pedestrians import render
from reid_core.experiment import Experiment
from reid_core.models import Facts
from reid_core.notes import Note
from reid_core.runs import Run, build

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
    lab.close()


def press(page, name: str, role: str = "button") -> None:
    page.get_by_role(role, name=name, exact=True).first.click()
    settled(page)


@pytest.mark.parametrize(
    "name, run",
    [
        pytest.param(name, run, marks=[pytest.mark.long] if place else [])
        for name, runs in PAGES.items()
        for place, run in enumerate(runs)
    ],
)
def test_a_page_opens_and_its_steps_set_it(lab, browser, tmp_path, name, run):
    """Nothing breaks, nothing is wider than the screen, and a step says what to see, beside it."""
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}{name}?run={run}")
        page.wait_for_timeout(500)
        steps = page.locator("[class*='st-key-lesson-'] button")
        for step in range(steps.count()):
            steps.nth(step).click()
            settled(page)
            assert asked(page, "look") == str(step + 1)
            assert not page.get_by_test_id("stAlertContentError").count()
        if steps.count():
            said = page.locator("[class*='st-key-lesson-said-']")
            before = said.bounding_box()["y"]
            page.get_by_test_id("stMain").evaluate("main => main.scrollBy(0, 600)")
            assert 60 < said.bounding_box()["y"] < before  # below Streamlit's header
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


VIEWS = {  # of the microscope, by run
    "transreid-demo": ["Rollout", "Jigsaw", "Side information", "Positions", "Deletion"],
    "ohformer-demo": ["Orders", "Global and local"],
    "rga-demo": ["Gates", "On the person", "Why similar"],
}


@pytest.mark.parametrize(
    "run", [each if "rga" in each else pytest.param(each, marks=pytest.mark.long) for each in VIEWS]
)
def test_every_view_of_the_microscope(lab, browser, run):
    formulas = 0
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}attention?run={run}")
        for name in VIEWS[run]:
            press(page, name, "radio")
            page.wait_for_timeout(300)
            settled(page)
            assert asked(page, "lens") == name
            assert not page.get_by_test_id("stAlertContentError").count()
            formulas += _formula_is_drawn(page)
    assert formulas > len(VIEWS[run]) / 2


def _formula_is_drawn(page) -> bool:
    """Whether the view has a formula; it is drawn whole, none of it as the text that it is made of."""
    button = page.get_by_role("button", name="Formula").first
    if not button.count():
        return False
    button.click()
    formula = page.get_by_test_id("stPopoverBody").last
    formula.locator(".katex").first.wait_for()
    assert not formula.locator(".katex-error").count()
    assert "$" not in formula.inner_text()
    page.keyboard.press("Escape")
    return True


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
        second = asked(page, "query")
        assert second != query
        page.keyboard.type("jnxk of 12")  # while the next query is still being fetched
        page.get_by_placeholder("N to write").filter(has_text="xk of 12").wait_for()
        settled(page)
        third = asked(page, "query")
        assert third not in (query, second)
        page.keyboard.press("Escape")
        settled(page)
    kept = notes.read(lab.run("rga-demo")).queries.items()
    found = {name.rpartition("/")[2]: note for name, note in kept}
    assert found == {query: Note(reviewed=True), third: Note(text="xk of 12")}


SLOW_WIRE = """
const Wire = WebSocket
window.WebSocket = class extends Wire {
  send(data) { setTimeout(() => super.send(data), window.late ?? 0) }
}
"""


def chosen(page) -> set[str]:
    """The query as the selector, the address, the strip and the gallery name it."""
    said = (
        page.locator(".st-key-query input").input_value()
        or page.locator(".st-key-query").inner_text()
    )
    strip = page.locator(".item.chosen").first.get_attribute("title").split(", ")[1]
    return {
        said.strip(),
        asked(page, "query"),
        strip,
        page.locator("aside.query .name").inner_text(),
    }


@pytest.mark.parametrize("late, gap", [(0, 0), (400, 150)])
def test_keys_that_come_before_the_answer(lab, browser, late, gap):
    """Each acts on what the one before has led to, and all parts of the page show the same query."""
    with visitor(browser, 1440) as page:
        page.add_init_script(SLOW_WIRE)
        opened(page, f"{lab.address}errors?run=ohformer-demo")
        hears_keys(page)
        names = [asked(page, "query")]
        for _ in range(2):
            page.keyboard.press("j")
            settled(page)
            names.append(asked(page, "query"))
        page.goto(f"{lab.address}errors?run=ohformer-demo&query={names[0]}")
        settled(page)
        hears_keys(page)
        page.evaluate(f"window.late = {late}")
        page.keyboard.type("1jjxk2nof it", delay=gap)
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(
            note.text for note in notes.read(lab.run("ohformer-demo")).queries.values()
        ):
            page.wait_for_timeout(100)
        page.wait_for_function(f"location.href.includes({names[2]!r})")
        page.evaluate("window.late = 0")
        settled(page)
        assert chosen(page) == {names[2]}
    kept = notes.read(lab.run("ohformer-demo"))
    first, second, third = (kept.of(f"query/{name}") for name in names)
    assert first == Note(tags=(kept.tags[0],)) and third == Note(reviewed=True)
    assert second == Note(tags=(kept.tags[1],), text="of it")
    (lab.runs / "ohformer-demo" / "notes.json").unlink()


@pytest.mark.parametrize("by_mouse", [False, True])
def test_a_note_waits_for_a_slow_server(lab, browser, by_mouse):
    """What is typed before the next query has come is that query's note, and is not lost."""
    with visitor(browser, 1440) as page:
        page.add_init_script(SLOW_WIRE)
        opened(page, f"{lab.address}errors?run=transreid-demo")
        hears_keys(page)
        page.evaluate("window.late = 1200")
        before, field = asked(page, "query"), page.get_by_placeholder("N to write")
        page.keyboard.press("j")
        field.click() if by_mouse else page.keyboard.press("n")
        page.keyboard.type("xk of 12")
        field.filter(has_text="xk of 12").wait_for()
        page.wait_for_function(f"!location.href.includes({before!r})")
        page.evaluate("window.late = 0")
        settled(page)
        after = asked(page, "query")
        assert field.input_value() == "xk of 12"
        page.keyboard.press("Escape")
        settled(page)
    kept = notes.read(lab.run("transreid-demo"))
    assert [note.text for name, note in kept.queries.items()] == ["xk of 12"]
    assert kept.of(f"query/{after}").text == "xk of 12"
    (lab.runs / "transreid-demo" / "notes.json").unlink()


def test_a_note_is_saved_once_and_stays_where_it_was_written(lab, browser):
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}errors?run=vit-bot-demo")
        hears_keys(page)
        first, field = asked(page, "query"), page.get_by_placeholder("N to write")
        page.keyboard.press("j")
        settled(page)
        second = asked(page, "query")
        page.keyboard.type("nhello")
        field.filter(has_text="hello").wait_for()
        page.keyboard.press("Control+Enter")
        settled(page)
        assert field.input_value() == "hello"
        field.click()
        page.keyboard.press("End")
        page.keyboard.type(" there")
        page.go_back()  # leaves it unsaved
        page.wait_for_function(f"location.href.includes({first!r})")
        settled(page)
        assert field.input_value() == ""
        field.click()
        page.keyboard.press("Escape")
        settled(page)
    kept = notes.read(lab.run("vit-bot-demo")).queries
    assert kept == {f"query/{second}": Note(text="hello")}
    (lab.runs / "vit-bot-demo" / "notes.json").unlink()


def tally(page) -> int:
    """How many images are selected, as the map itself says."""
    page.wait_for_timeout(400)  # it counts a moment after it has drawn
    page.locator(".tally", has_text="selected").wait_for()
    return int(page.locator(".tally").inner_text().split(", ")[1].split()[0].replace(",", ""))


def still_selected(page, count: int) -> None:
    """After a reload."""
    page.goto(page.url)
    page.get_by_text("In the lasso").wait_for()
    page.locator(".tally", has_text=f" {count:,} selected").wait_for()


def lasso_with_keys(page) -> int:
    """A box around what lies near the point in focus; returns how many images it selects."""
    page.locator(".stage").first.focus()
    for key in ["ArrowRight", *["Shift+ArrowRight", "Shift+ArrowDown"] * 4, "ArrowLeft", "ArrowUp"]:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_function("location.href.includes('lasso=')")
    settled(page)
    return tally(page)


@pytest.mark.long
def test_a_region_is_selected_with_keys_and_stays_in_a_link(lab, browser):
    """On the first map, then, beside it, on the second one; Escape drops it."""
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}clusters?run=nformer-demo&map=PCA")
        page.locator(".stage").first.wait_for()
        settled(page)
        page.wait_for_timeout(1000)
        count = lasso_with_keys(page)
        assert count and asked(page, "lasso").startswith("0_") and len(asked(page, "lasso")) < 100
        assert page.get_by_text(f"{count:,} of").first.is_visible()
        still_selected(page, count)
        page.locator(".stage").first.focus()
        page.keyboard.press("Escape")
        page.wait_for_function("!location.href.includes('lasso=')")
        page.keyboard.press("m")  # to the other map
        lasso_with_keys(page)
        assert asked(page, "lasso").startswith("1_")


@pytest.mark.long
def test_a_lasso_by_hand_selects_the_same_after_a_reload(lab, browser):
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}clusters?run=resnet-bot-demo&map=PCA&dimensions=3-D")
        stage = page.locator(".stage").first
        stage.wait_for()
        settled(page)
        page.wait_for_timeout(1000)
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        press(page, "Lasso")
        corners = [(90 * math.cos(turn / 9), 70 * math.sin(turn / 9)) for turn in range(56)]
        page.mouse.move(x + 90, y)
        page.mouse.down()
        for right, down in corners:
            page.mouse.move(x + right, y + down)
        page.mouse.up()
        page.wait_for_function("location.href.includes('lasso=')")
        settled(page)
        count = tally(page)
        assert count > 10 and len(asked(page, "lasso")) < 400
        page.go_back()
        page.wait_for_function("!location.href.includes('lasso=')")
        settled(page)
        assert tally(page) == 0
        page.go_forward()
        page.wait_for_function("location.href.includes('lasso=')")
        settled(page)
        still_selected(page, count)


def test_folded_settings_show_what_the_address_says(lab, browser):
    """Opened late, and after a press of the back button that they did not see: and one changes alone."""

    def unfold() -> None:
        page.get_by_test_id("stExpander").get_by_text("Settings", exact=True).click()

    with visitor(browser) as page:
        first = f"{lab.address}clusters?run=resnet-bot-demo&map=PCA&metric=euclidean&neighbors=30"
        opened(page, first)
        settled(page)
        page.get_by_text("Lines", exact=True).click()
        page.wait_for_function("location.href.includes('edges=true')")
        settled(page)
        unfold()
        neighbours = page.get_by_role("slider").first
        assert neighbours.get_attribute("aria-valuetext") == "30"
        neighbours.press("ArrowRight")
        page.wait_for_function("location.href.includes('neighbors=50')")
        settled(page)
        assert asked(page, "metric") == "euclidean" and asked(page, "apart") == "0.1"
        unfold()
        page.go_back()
        page.wait_for_function("location.href.includes('neighbors=30')")
        settled(page)
        page.get_by_text("Lines", exact=True).click()
        page.wait_for_function("!location.href.includes('edges=true')")
        settled(page)
        assert asked(page, "neighbors") == "30"


def test_a_link_to_a_step_alone_sets_its_view(lab, browser):
    """And its words go when the reader goes on by hand."""
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}errors?run=transreid-demo&look=2")
        page.get_by_text("Camera by camera").first.wait_for()
        settled(page)
        assert asked(page, "look") == "2" and asked(page, "errors") == "Tables"
        press(page, "Inbox", "radio")
        page.wait_for_function("!location.href.includes('look=')")
        assert not page.get_by_text("it takes").count()


def test_a_link_to_a_run_that_is_not_here(lab, browser):
    with visitor(browser, 900) as page:
        opened(page, f"{lab.address}frequency?run=nobody")
        page.get_by_text("There is no run named nobody here").wait_for()
        page.locator(".st-key-missing-run button").click()
        page.get_by_text("There is no run named nobody here").wait_for(state="detached")


def test_a_choice_is_called_what_it_is_for_the_run_that_is_shown(lab, browser):
    """The browser knows a choice by its label: another run's would stay, or leave none chosen."""

    def other_run(page) -> None:
        page.get_by_test_id("stSidebar").get_by_test_id("stSelectbox").click()
        press(page, "rga-demo", "option")

    def back(page) -> None:
        page.go_back()
        page.wait_for_function("location.href.includes('run=transreid-demo')")
        settled(page)

    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}errors?run=transreid-demo")
        lit = page.get_by_role("radio", checked=True).filter(has_text="Rank 1 wrong")
        lit.wait_for()
        first = lit.inner_text()
        other_run(page)
        assert lit.inner_text() != first
        back(page)
        assert lit.inner_text() == first
        opened(
            page, f"{lab.address}errors?run=transreid-demo&errors=Runs&against=pha-demo&pattern=10"
        )
        pattern = page.locator(".st-key-pattern input")
        pattern.wait_for()
        said = pattern.input_value()
        assert said.startswith("only transreid-demo is right: ")
        other_run(page)
        assert pattern.input_value().startswith("only rga-demo is right: ")
        back(page)
        assert pattern.input_value() == said


def test_a_box_that_was_away_comes_back_with_its_choice(lab, browser):
    """While a map is computed the page ends above it, and the browser forgets what it held."""
    query = "0294_c6s1_009402_03.jpg"
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}clusters?run=pha-demo&map=PCA&dimensions=3-D&query={query}")
        box = page.locator(".st-key-query input")
        box.wait_for()
        page.get_by_test_id("stSidebar").get_by_test_id("stSelectbox").click()
        page.get_by_role("option", name="rga-demo", exact=True).click()
        box.wait_for(state="detached")
        box.wait_for()
        settled(page)
        assert asked(page, "run") == "rga-demo"
        assert box.input_value() == asked(page, "query") == query


def test_every_view_is_a_click_away_in_a_narrow_window(lab, browser):
    """None is cut off or to be scrolled to sideways."""
    with visitor(browser, 900) as page:
        opened(page, f"{lab.address}attention?run=transreid-demo")
        group = page.locator(".st-key-lens")
        views = group.get_by_role("radio")
        views.nth(5).wait_for()
        settled(page)
        edge = page.evaluate("document.documentElement.clientWidth")
        for place in range(views.count()):
            right = views.nth(place).evaluate(
                "e => e.closest('label, button, [role=radio]').getBoundingClientRect().right"
            )
            assert right <= edge + 1


@pytest.mark.long
def test_many_passes_are_asked_for_and_cancelled(lab, browser, monkeypatch):
    """A ViT of the papers' input size on a picture of one's own, which needs no test split."""
    monkeypatch.setenv("REID_RUNS", str(lab.runs))
    settings = dict(trunk="vit_small_patch16_224", pretrained="none")
    large = Experiment.create(model="vit-bot", recipe="paper", settings=settings)
    facts = Facts(5, (1, 2, 3), (0, 1))
    weights = build(large, facts).state_dict()
    Run.create(
        large, facts, "large", weights=weights, imported=dict(file="x.pth", sha256="ab" * 32)
    )
    image = next((lab.data / "pedestrians" / "query").glob("*.jpg"))
    with visitor(browser, 1440) as page:
        opened(page, f"{lab.address}attention?run=large&lens=Deletion")
        page.locator("input[type=file]").set_input_files(image)
        start = page.get_by_role("button", name="Start", exact=True)
        start.wait_for()
        page.get_by_text("passes of this model, about").wait_for()
        start.click()
        cancel = page.get_by_role("button", name="Cancel", exact=True)
        cancel.wait_for()
        cancel.click()
        start.wait_for()
        settled(page)
        assert not cancel.count() and not page.locator(".st-key-tested-maps").count()
