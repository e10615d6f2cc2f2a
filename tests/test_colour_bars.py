"""What is said of the colours of maps, by the scripts that the page runs."""

import pytest

from app.components import HERE

pytestmark = pytest.mark.browser

ZERO, LEANING, TWO = [[0, 0]], [[-0.004, 0.022]], [[0.125, 0.5]]
BARS = """tiles => {
  const row = colourBars({ tiles, unit: "" }, scales(tiles))
  return row.map(each => each.ends ? [each.whose, ...each.ends] : [each.textContent])
}"""
WORDS = """({ map, palette }) => rangeInWords(map, extent([map], palette)).join(" ")"""


@pytest.fixture
def page(browser):
    page = browser.new_page()
    scripts = ("saving", "palettes", "colour_bars")
    page.add_script_tag(content="\n".join((HERE / f"{each}.js").read_text() for each in scripts))
    yield page
    page.close()


def tile(label: str, drawn: list, scale="own", palette="heat") -> dict:
    return dict(label=label, map=drawn, scale=scale, palette=palette)


def test_a_range_of_its_own_is_that_of_its_colours_and_of_its_numbers(page):
    said = lambda drawn, palette: page.evaluate(WORDS, dict(map=drawn, palette=palette))  # noqa: E731
    assert said(LEANING, "diverging") == "colours -0.022 to 0.022, values -0.004 to 0.022"
    assert said(TWO, "heat") == "0.125 to 0.5"
    assert said([[0.2, 0.5]], "mask") == "colours 0 to 0.5, values 0.2 to 0.5"
    for palette in ("heat", "diverging", "mask"):
        assert said(ZERO, palette) == "0 everywhere"
    assert said([[None, None]], "heat") == "blank everywhere"


def test_bars_come_in_the_order_of_the_pictures_and_say_whose_they_are(page):
    tiles = [
        tile("apart", TWO),
        tile("one", TWO, "shared"),
        tile("two", [[0.1, 0.4]], "shared"),
        tile("less", LEANING, palette="diverging"),
    ]
    *bars, hint = page.evaluate(BARS, tiles)
    assert bars == [
        ["apart", "its lowest", "its highest"],
        ["one range: one · two", "0.1", "0.5"],
        ["less", "−largest", "0", "+largest"],
    ]
    assert "noted below its picture" in hint[0] and "equally far from 0" in hint[0]


def test_one_range_for_all_and_none_at_all(page):
    shared = [tile(name, TWO, "shared") for name in "ab"]
    assert page.evaluate(BARS, shared) == [["one range for all", "0.125", "0.5"]]
    assert page.evaluate(BARS, [tile("a", ZERO, "shared")]) == [["0 everywhere"]]
    assert page.evaluate(BARS, [tile("a", ZERO), tile("b", ZERO)]) == []
    alone = page.evaluate(BARS, [tile("a", LEANING, palette="diverging")])
    assert alone == [["", "-0.022", "0", "0.022"]]
    assert page.evaluate(BARS, [tile(name, TWO, "shared") for name in "abcde"] + [tile("f", TWO)])[0] == [
        "one range: a · b · 3 more", "0.125", "0.5",
    ]  # fmt: skip
