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
    """The page Scores after two choices, and its address before each."""
    app, before = opened("scores", run=run), []
    for key, value in dict(protocol="cuhk03-np", far="5 %").items():
        before.append(dict(app.query_params))
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
    show(app, before[-steps])
    choose(app, "far", "10 %").run()
    assert held(app, "far") == ("10 %",) * 2
    assert held(app, "protocol") == ("cuhk03-np",) * 2
    choose(app, "far", "1 %").run()
    assert held(app, "far") == ("1 %",) * 2 and held(app, "protocol") == ("cuhk03-np",) * 2


def test_back_and_forward_go_through_the_choices(tiny_run):
    app, before = scores(tiny_run)
    last = dict(app.query_params)
    for address in (*reversed(before), before[1], last):
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
