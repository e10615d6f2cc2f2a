"""How long the Frequency lab takes: a move of the cut-off on the page, and one query's curve at the
size of Market-1501.

python benchmarks/frequency.py [--run NAME] [--count 30] [--json]
"""

import argparse
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core and app

import numpy as np
from streamlit.testing.v1 import AppTest

from benchmarks.pages import MAIN, milliseconds, summary
from reid_core.analysis import cutoffs
from reid_core.data import prepare
from reid_core.evaluate import Embeddings

QUERIES, GALLERY, WIDTH = 3368, 19732, 768  # Market-1501 and a ViT-B


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--run", help="default: the run that the app shows first")
    asked.add_argument("--count", type=int, default=30, help="moves of the cut-off (default 30)")
    asked.add_argument("--json", action="store_true")
    asked = asked.parse_args()
    logging.disable(logging.WARNING)  # Streamlit misses its server
    result = page(asked.run, asked.count) | market(asked.count)
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for name, each in result.items():
            print(
                f"{name:<44}{each['median_ms']:>8} ms{each['ninth_decile_ms']:>9} ms (9th decile)"
            )
    return 0


def page(run: str | None, count: int) -> dict[str, dict[str, float]]:
    """The whole script of the page, without a browser."""
    prepare("pedestrians")
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    app.query_params["part"] = "One query"
    if run:
        app.query_params["run"] = run
    app.run()
    app.switch_page("../pages/frequency.py").run()
    stops = list(app.select_slider(key="cutoff").options)
    picks = np.random.default_rng(0).integers(len(stops), size=count)
    move = lambda pick: app.select_slider(key="cutoff").set_value(stops[pick]).run  # noqa: E731
    moved = [milliseconds(move(pick)) for pick in picks]
    asked = [milliseconds(app.button(key="next").click().run) for _ in range(count)]
    return {
        "page, another cut-off": summary(moved),
        "page, another query and its curve": summary(asked),
    }


def market(count: int) -> dict[str, dict[str, float]]:
    """Average precision at every cut-off against a gallery of Market-1501's size, random features."""
    draws = np.random.default_rng(0)
    total = QUERIES + GALLERY
    found = Embeddings(
        draws.normal(size=(total, WIDTH)).astype(np.float32),
        names=np.arange(total).astype(str),
        identities=draws.integers(1, 752, total),
        cameras=draws.integers(1, 7, total),
        views=np.full(total, -1),
        is_query=np.arange(total) < QUERIES,
    )
    vectors = draws.normal(size=(len(cutoffs.FINE), WIDTH)).astype(np.float32)
    cutoffs.precisions(found, vectors, 0)  # directions are computed once for a run
    act = lambda row: _Done(cutoffs.precisions(found, vectors, row))  # noqa: E731
    spent = [milliseconds(lambda row=row: act(row)) for row in range(count)]
    return {f"{len(vectors)} cut-offs against {GALLERY} images": summary(spent)}


class _Done:
    """What `milliseconds` asks of a page."""

    exception = ()

    def __init__(self, _):
        pass


if __name__ == "__main__":
    sys.exit(main())
