"""How long the page Errors takes at Market-1501's size, with the random features of `market_size`.

python benchmarks/errors.py [--count 30] [--json]

A change of query is the page's whole script without a browser, tags and evidence included. What is
computed once for a run is told apart, and so are the study that re-ranks all queries and one list
re-ranked with what it kept.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core, app and benchmarks

import psutil
from streamlit.testing.v1 import AppTest

from benchmarks.market_size import GALLERY, QUERIES, make
from benchmarks.pages import MAIN, milliseconds, summary
from reid_core.runs import Run

TARGET = 200  # milliseconds, median


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--count", type=int, default=30, help="changes of query (default 30)")
    asked.add_argument("--json", action="store_true")
    asked = asked.parse_args()
    logging.disable(logging.WARNING)  # Streamlit misses its server
    with tempfile.TemporaryDirectory() as folder:
        run = make(Path(folder))
        result = dict(target_ms=TARGET) | inbox(asked.count) | reranking(run)
    print(json.dumps(result, indent=2) if asked.json else "\n".join(lines(result)))
    return 0


def inbox(count: int) -> dict:
    """The inbox: the first view, which computes a run's tags, and changes of query."""
    app = AppTest.from_file(str(MAIN), default_timeout=600)
    app.run()
    app.switch_page("../pages/errors.py")
    first = milliseconds(app.run)
    queue = len(app.selectbox(key="query").options)
    times = [milliseconds(app.button(key="next").click().run) for _ in range(count)]
    app.session_state["show"] = "all"
    app.run()
    every = [milliseconds(app.button(key="next").click().run) for _ in range(count)]
    return dict(
        queue=queue,
        first_view_ms=round(first),
        change_among_failures=summary(times),
        change_among_all=summary(every),
        memory_mb=round(psutil.Process().memory_info().rss / 2**20),
    )


def reranking(run: Run) -> dict:
    """The study of k-reciprocal re-ranking, and one list with what it kept."""
    from app import cached
    from reid_core.studies import Study

    settings = dict(method="k-reciprocal", features="as the run")
    study, chosen = Study.asked(run, "rerank", settings), tuple(sorted(settings.items()))
    started = time.perf_counter()
    arrays = study.compute()
    spent = time.perf_counter() - started
    one = lambda query: cached.reranked(run.name, run.stamp(), query, study.key, chosen)  # noqa: E731
    one(0)
    times = []
    for query in range(1, 21):
        started = time.perf_counter()
        one(query)
        times.append(1000 * (time.perf_counter() - started))
    kept = (run.folder / study.file("npz")).stat().st_size
    return dict(
        study_s=round(spent, 1),
        one_list=summary(times),
        kept_mb=round(kept / 2**20, 1),
        neighbours_per_image=round(len(arrays["data"]) / len(arrays["longest"]), 1),
    )


def lines(result: dict) -> list[str]:
    """The figures as text."""
    said = [
        f"{QUERIES} queries, {GALLERY} gallery images, 768 numbers each; target {TARGET} ms (median) "
        "for a change of query",
        f"first view, tags of {result['queue']} failures included: {result['first_view_ms']} ms",
    ]
    for name in ("change_among_failures", "change_among_all", "one_list"):
        each = result[name]
        said.append(
            f"{name.replace('_', ' '):<24} median {each['median_ms']:>7} ms, 9th decile "
            f"{each['ninth_decile_ms']:>7} ms, {each['count']} times"
        )
    said.append(
        f"k-reciprocal for all: {result['study_s']} s, {result['kept_mb']} MB kept, "
        f"{result['neighbours_per_image']} codes an image; memory of the inbox {result['memory_mb']} MB"
    )
    return said


if __name__ == "__main__":
    raise SystemExit(main())
