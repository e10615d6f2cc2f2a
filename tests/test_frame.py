"""What stands around every figure: captions, downloads, lessons, studies, the projector."""

import io
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import psutil
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from test_app import drawn, opened

from app import components, figures, projector, studies, tables
from app.passes import about
from reid_core import jobs
from reid_core.errors import BadInput
from reid_core.runs import open_run
from reid_core.studies import WHOSE, Study


@pytest.fixture(autouse=True)
def nothing_cached():
    """The fixture's run has one name and one stamp in every test, and other studies."""
    st.cache_resource.clear()


def page(function, **address: str) -> AppTest:
    app = AppTest.from_function(function, default_timeout=240)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


# ---- figures


def with_pictures():
    import numpy as np
    import pandas as pd
    import streamlit as st

    from app.figures import Said, pictures

    said = Said("What is **drawn**.", "$a = b$", "Somebody 2020, eq. 3", (np.load,))
    one = np.array([[0.123456789, np.nan], [1e-9, 2]])
    tiles = [
        dict(label="one", src="data:,x", size=(64, 32), map=one, picked=np.array([1, 0])),
        dict(label="two", src="data:,x", size=np.array([64, 32]), window=(16, 12, np.int64(-2))),
        dict(size=(64, 32), map=[[True, None]], palette="mask", scale=(0, 1)),
    ]
    link = {"from": (0, 1, 1), "to": (1, np.int64(0), 0), "weight": np.float32(0.5)}

    def picked():
        st.session_state["seen"] = st.session_state["maps"]["picked"]

    pictures(tiles, said, key="maps", alt="Two maps", links=[link], on_pick=picked, unit="nats")
    table = pd.DataFrame(dict(a=[1]))
    pictures(tiles[:1], said, key="other", alt="One map", table=table)


def test_pictures_are_packed_for_the_browser():
    sent = drawn(page(with_pictures), "pictures")
    assert sent["images"] == ["data:,x"]  # once, though two tiles show it
    first, second, third = sent["tiles"]
    assert first["map"] == [[0.12346, None], [1e-9, 2.0]]
    assert (first["src"], second["src"], third["src"]) == (0, 0, None)
    assert first["picked"] == [1, 0] and second["window"] == [16, 12, -2] and second["map"] is None
    assert third["map"] == [[1.0, None]] and third["scale"] == [0, 1]
    assert sent["links"] == [{"from": [0, 1, 1], "to": [1, 0, 0], "weight": 0.5}]
    assert sent["pickable"] and sent["unit"] == "nats" and sent["csv"] is None


def test_a_table_replaces_the_maps_in_the_csv():
    nodes = [json.loads(node.proto.json) for node in page(with_pictures).get("bidi_component")]
    assert nodes[1]["csv"] == "a\n1\n" and not nodes[1]["pickable"]


def test_a_figure_says_what_it_is_and_how_it_was_computed():
    app = page(with_pictures)
    captions = [each.value for each in app.caption]
    assert captions[0] == "What is **drawn**." and "Somebody 2020, eq. 3" in captions
    assert "$a = b$" in [each.value for each in app.markdown]
    assert app.code[0].value.lstrip().startswith("@set_module") or "def load(" in app.code[0].value


@pytest.mark.parametrize("digits", [1e-12, 3.7e-4, 0.5, 99_999.6, 1.5e8])
def test_numbers_keep_five_digits(digits):
    rng = np.random.default_rng(0)
    drawn = digits * rng.normal(size=(3, 4))
    sent = figures._numbers(drawn)
    assert sent == [[float(f"{value:.5g}") for value in row] for row in drawn]


def with_a_chart():
    import pandas as pd
    import plotly.graph_objects as go

    from app.figures import Said, chart, table

    frame = pd.DataFrame(dict(x=[1, 2], y=[3, 4]))
    figure = go.Figure(go.Scatter(x=frame.x, y=frame.y), layout=dict(height=200))
    chart(figure, Said("A line."), key="a line", alt="A line", table=frame)
    chart(figure, Said("Again."), key="again", alt="A line")
    table(frame, Said("Numbers."), key="numbers", on_select="rerun")


def test_a_chart_can_be_saved():
    app = page(with_a_chart)
    assert drawn(app, "downloads")["place"] == "st-key-a-line"  # as Streamlit names the element
    buttons = [node.proto.label for node in app.get("download_button")]
    assert buttons == ["CSV", "CSV"]  # the second chart has no table
    assert not app.code and len(app.dataframe) == 1


def test_files_are_called_alike():
    app = page(with_a_chart)
    assert drawn(app, "downloads")["file"] == "a-line"
    assert components.file_name("map about 5f8f6cf11a9076bc") == "map-about"


def test_the_numbers_of_a_column_have_as_many_digits():
    frame = pd.DataFrame(
        dict(score=[0.618, 0.6186], hit=[2, np.nan], one=[1, 0.99971], tiny=[1e-6, 0.5], word="a")
    )
    formats = {name: each["type_config"]["format"] for name, each in tables.alike(frame).items()}
    assert formats == dict(score="%.4f", hit="%.0f", one="%.4f")  # tiny ones would be written as 0


def test_words_in_a_csv_are_no_formulas():
    words = ["=1+1", "@x", "+1", "-x", "-1_c1.jpg", '"a", ü', None]
    frame = pd.DataFrame(dict(word=words, number=[-1.5, *range(6)]))
    read = pd.read_csv(io.StringIO(figures.csv_of(frame)), keep_default_na=False)
    assert read.word.tolist() == ["'=1+1", "'@x", "'+1", "'-x", "-1_c1.jpg", '"a", ü', ""]
    assert read.number.tolist() == frame.number.tolist()
    assert frame.word[0] == "=1+1"


def test_a_run_that_is_called_like_a_column_has_one_of_its_own():
    frame = figures.beside(dict(query=["a", "b"]), {"query": [1, 2], "other": [3, 4]})
    assert frame.columns.tolist() == ["query", "run query", "other"]
    assert frame["query"].tolist() == ["a", "b"] and frame["run query"].tolist() == [1, 2]


def test_source_keeps_its_indentation():
    class Nested:
        def method(self):
            return 1

    app = page(_code_of, which="x")
    assert "\n    return" in app.code[0].value and app.code[0].value.startswith("def ")
    assert Nested().method() == 1


def _code_of():
    from app import figures

    figures._source(figures._popover)


# ---- lessons


def with_queries():
    import streamlit as st

    from app import address, pickers

    with address.told("page"):
        names = ["a", "b"] if st.session_state.get("run", "one") == "one" else ["c", "d"]
        pickers.linked_query("some", names)
        st.selectbox("Query", names, key="query")


def another_run(app):
    app.session_state["run"] = "two"
    app.run()
    assert app.selectbox(key="query").value == "c"
    return [each.value for each in app.warning]


def test_a_query_that_nobody_chose_is_not_missed_in_another_run():
    assert not another_run(page(with_queries))


def test_a_chosen_query_that_another_run_has_not_is_told():
    app = page(with_queries)
    app.selectbox(key="query").select("b").run()
    assert another_run(app) == ["Run some has no query b; shown is c."]
    assert page(with_queries, query="x").warning


def with_lessons():
    import streamlit as st

    from app import address, lessons, pickers

    with address.told("page"):  # as main.py does
        lessons.begin("page")
        lessons.first("page", {"letter": "b"})
        pickers.linked("sign", ["+", "-"], "+")  # a widget that stands above the steps
        st.selectbox("Sign", ["+", "-"], key="sign")
        both = lessons.Step("See a", "This is a.", {"letter": "a", "sign": "-"})
        lessons.look_at([both, lessons.Step("Stay", "Stay.")], "page")
        pickers.linked("letter", ["a", "b", "c"], "c")
        st.selectbox("Letter", ["a", "b", "c"], key="letter")


def test_a_preset_is_taken_once():
    app = page(with_lessons)
    assert app.selectbox(key="letter").value == "b"
    app.selectbox(key="letter").select("c").run()
    assert app.selectbox(key="letter").value == "c"


def test_the_address_goes_before_the_preset():
    assert page(with_lessons, letter="a").selectbox(key="letter").value == "a"


def test_a_step_sets_the_widgets_and_says_what_to_see():
    app = page(with_lessons)
    assert "This is a." not in [each.value for each in app.markdown]
    app.button(key="page step 1").click().run()
    assert app.selectbox(key="letter").value == "a"
    assert "This is a." in [each.value for each in app.markdown]
    assert app.query_params["look"] in ("1", ["1"])


def test_a_link_to_a_step_alone_sets_the_widgets():
    app = page(with_lessons, look="1")
    assert (app.selectbox(key="letter").value, app.selectbox(key="sign").value) == ("a", "-")
    app.run()
    assert "This is a." in [each.value for each in app.markdown]
    assert page(with_lessons, look="1", letter="c").selectbox(key="letter").value == "c"


@pytest.mark.parametrize("widget, value", [("letter", "c"), ("sign", "+")])
def test_a_steps_words_go_when_the_reader_goes_on(widget, value):
    app = page(with_lessons)
    app.button(key="page step 1").click().run()
    app.run()
    assert "This is a." in [each.value for each in app.markdown]
    app.selectbox(key=widget).select(value).run()
    assert "This is a." not in [each.value for each in app.markdown]
    assert "look" not in app.query_params and app.selectbox(key=widget).value == value


@pytest.mark.parametrize("look", ["2", "0", "9", "x", ""])
def test_a_link_shows_its_step(look):
    text = [each.value for each in page(with_lessons, look=look).markdown]
    assert ("Stay." in text) == (look == "2")


# ---- studies


@pytest.fixture
def asked(tiny_run, monkeypatch) -> Study:
    """A study of the small run, whose process is only pretended."""
    monkeypatch.setattr(studies, "_started", {})
    monkeypatch.setattr(jobs, "start_study", lambda study: study.report("running", 1, 4))
    (open_run(tiny_run).folder / "studies").mkdir()
    return Study.asked(open_run(tiny_run), "shares", {"seed": 3})


def with_a_study(start=False, seed=3):
    import streamlit as st

    from app import studies
    from reid_core.runs import open_run

    found = studies.study(open_run("tiny"), "shares", label="Compute", start=start, seed=seed)
    st.text("nothing" if found is None else str(found["answer"]))


def state(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def keep(study: Study) -> None:
    with (study.run.folder / study.file("npz")).open("wb") as file:
        np.savez(file, answer=np.array(42), **{WHOSE: f"{study.name}-{study.key}"})


def test_a_study_is_started_followed_and_shown(asked):
    app = page(with_a_study)
    assert state(app) == ["Compute"] and app.text[0].value == "nothing"
    app.button[0].click().run()
    left = 3 * (asked.standing().time - psutil.Process().create_time())
    text = f"1 of 4, {about(left)} left"
    assert state(app) == ["Cancel"] and text in app.get("progress")[0].proto.text
    keep(asked)
    app.run()
    assert app.text[0].value == "42" and not app.button


def test_a_study_starts_by_itself_once(asked):
    app = AppTest.from_function(with_a_study, kwargs=dict(start=True), default_timeout=240).run()
    assert state(app) == ["Cancel"]
    app.button[0].click().run()
    assert (asked.run.folder / asked.file("stop")).exists()
    assert app.button[0].disabled and "stopping" in app.get("progress")[0].proto.text
    asked.report("stopped")
    app.run()
    assert state(app) == ["Compute"] and "Cancelled" in app.caption[0].value


def test_a_failed_study_says_why_and_can_be_tried_again(asked):
    asked.report("failed", message="no *masks* here")
    (asked.run.folder / asked.file("log")).write_text("the last words")
    app = page(with_a_study)
    assert "masks" in app.error[0].value and "the last words" in app.code[0].value
    app.button[0].click().run()
    assert state(app) == ["Cancel"] and not app.error


def test_a_process_that_can_not_start_is_told(asked, monkeypatch):
    def refuse(study):
        raise BadInput("the disk is full")

    monkeypatch.setattr(jobs, "start_study", refuse)
    app = page(with_a_study)
    app.button[0].click().run()
    assert not app.exception and state(app)[0] in ("Compute", "Try again")
    assert "disk is full" in " ".join(each.value for each in app.error)


def test_a_third_study_waits_for_its_turn(asked):
    others = [Study.asked(asked.run, "shares", {"seed": seed}) for seed in (1, 2)]
    for other in others:
        other.report("running", 1, 2)
        studies._started[other.run.name, other.file("npz")] = other
    app = page(with_a_study)
    app.button[0].click().run()
    assert "waits" in app.get("progress")[0].proto.text and asked.standing().state == "none"
    before = [each for each in app.button if each.label == f"shares of {asked.run.name}"]
    assert len(before) == 2
    before[1].click().run()  # one that waits may ask another to make way
    assert [(each.run.folder / each.file("stop")).exists() for each in others] == [False, True]
    app.button[0].click().run()
    assert state(app) == ["Compute"]  # no longer wanted
    app.button[0].click().run()
    others[0].report("stopped")
    app.run()
    assert asked.standing().state == "running" and "1 of 4" in app.get("progress")[0].proto.text


def test_a_damaged_study_is_computed_anew(asked):
    (asked.run.folder / asked.file("npz")).write_bytes(b"damaged")
    assert state(page(with_a_study)) == ["Compute"]


# ---- projector


def test_the_projector_is_entered_and_left(tiny_run):
    app = opened("retrieval")
    assert "projector" not in app.query_params
    app.button(key="projector").click().run()
    assert app.query_params["projector"] in ("1", ["1"])
    app.button(key="leave-projector").click().run()
    assert "projector" not in app.query_params and app.button(key="projector")


def test_a_link_opens_the_projector(tiny_run):
    app = opened("home", projector="1")
    assert app.button(key="leave-projector")
    app.switch_page("../pages/retrieval.py").run()
    assert app.button(key="leave-projector")  # a page's own links don't know of it
    assert app.query_params["projector"] in ("1", ["1"])


def test_figures_are_enlarged_in_a_copy():
    figure = go.Figure(go.Scatter(x=[1], y=[1]), layout=dict(height=200))
    assert projector.enlarged(figure).layout.height == 300 and figure.layout.height == 200
    assert projector.enlarged(figure, 400).layout.height == 600
    figure.add_scatter(x=[1], y=[1], mode="text", text=["small"], textfont=dict(size=11))
    figure.add_annotation(text="small", font=dict(size=11))
    large = projector.enlarged(figure)
    assert large.data[-1].textfont.size == large.layout.annotations[-1].font.size == 17
