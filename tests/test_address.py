"""The address: what a link and the browser's button say, and what comes too late."""

import pytest
import streamlit as st
from test_app import opened


@pytest.fixture(autouse=True)
def nothing_cached():
    st.cache_resource.clear()


def held(app, key: str) -> tuple[str, str]:
    """What a widget holds, and what the address says of it."""
    said = app.query_params[key]
    return app.session_state[key], said if isinstance(said, str) else said[-1]


def choose(app, key: str, value: str):
    next(each for each in app.main.get("button_group") if each.key == key).set_value(value)
    return app


def scores(run: str):
    """The page Scores after two choices, and its address and hidden field before each."""
    app, before = opened("scores", run=run), []
    for key, value in dict(protocol="cuhk03-np", far="5 %").items():
        before.append((dict(app.query_params), app.text_input(key="echo").value))
        choose(app, key, value).run()
    assert held(app, "protocol") == ("cuhk03-np",) * 2 and held(app, "far") == ("5 %",) * 2
    return app, before


def show(app, address: dict) -> None:
    for key in list(app.query_params):
        del app.query_params[key]
    for key, value in address.items():
        app.query_params[key] = value


@pytest.mark.parametrize("steps", (1, 2))
def test_a_choice_that_outruns_the_address_counts(tiny_run, steps):
    """The browser sends it with an address from before the last ones: that is no link."""
    app, before = scores(tiny_run)
    said, echo = before[-steps]
    show(app, said)
    app.text_input(key="echo").set_value(echo)
    choose(app, "far", "10 %").run()
    assert held(app, "far") == ("10 %",) * 2
    assert held(app, "protocol") == ("cuhk03-np",) * 2
    choose(app, "far", "1 %").run()
    assert held(app, "far") == ("1 %",) * 2 and held(app, "protocol") == ("cuhk03-np",) * 2


def test_back_and_forward_go_through_the_choices(tiny_run):
    app, before = scores(tiny_run)
    last = dict(app.query_params)
    first, second = (address for address, _ in before)
    for address in (second, first, second, last):
        show(app, address)
        app.run()
        for key in ("protocol", "far"):
            said = address[key] if isinstance(address[key], str) else address[key][-1]
            assert held(app, key) == (said, said)


def test_a_link_within_a_page_wins(tiny_run):
    """It says what no address of this visit said, whatever was chosen just before."""
    app, _ = scores(tiny_run)
    show(app, dict(run=tiny_run, protocol="single-gallery-shot", far="20 %"))
    choose(app, "far", "50 %").run()
    assert held(app, "far") == ("20 %",) * 2


def unheard(run: str) -> tuple:
    """Retrieval after Next, of which the browser does not know yet; the queries, and where it was."""
    app = opened("retrieval", run=run)
    queries = app.selectbox(key="query").options
    here = queries.index(app.session_state["query"])
    shown, echo = dict(app.query_params), app.text_input(key="echo").value
    app.button(key="next").click().run()
    show(app, shown)
    app.text_input(key="echo").set_value(echo)
    app.selectbox(key="query").set_value(queries[here])
    return app, queries, here


def test_what_the_browser_has_not_heard_of_is_no_choice(tiny_run):
    """It sends all its widgets as it knows them: here one from before a button set it."""
    app, queries, here = unheard(tiny_run)
    app.run()
    assert held(app, "query") == (queries[here + 1],) * 2


def test_what_was_there_before_may_be_chosen_again_at_once(tiny_run):
    """The browser, which chose in between, has not heard of the answer, but knows what it chose."""
    app = opened("scores", run=tiny_run)
    shown, echo = dict(app.query_params), app.text_input(key="echo").value
    for value in ("cuhk03-np", "market", "cuhk03-np", "market"):
        show(app, shown)
        app.text_input(key="echo").set_value(echo)
        choose(app, "protocol", value).run()
        assert held(app, "protocol") == (value,) * 2


def test_a_page_that_ends_early_asks_back_with_the_same_field(tiny_run):
    """Else what the browser sends in it would be lost, and a late address taken for a link."""
    whole, early = opened("scores", run=tiny_run), opened("neighbours", run=tiny_run)
    assert not early.main.get("button_group")  # it has only words for this run
    assert early.text_input(key="echo").id == whole.text_input(key="echo").id


def test_a_button_goes_on_from_what_the_one_before_led_to(tiny_run):
    app, queries, here = unheard(tiny_run)
    app.button(key="next").click().run()
    assert held(app, "query") == (queries[here + 2],) * 2


def test_what_the_browser_may_not_know_is_told_again(tiny_run):
    """What the first run has set may never get there, if another one follows it at once: a widget would
    begin with its first choice."""
    told = lambda: app.sidebar.selectbox(key="run").proto.set_value  # noqa: E731
    app = opened("home", run=tiny_run)
    assert told()
    app.text_input(key="echo").set_value("").run()  # asked for before the first run was heard of
    assert told()
    app.run()
    assert not told()  # the browser knows it, and may choose
