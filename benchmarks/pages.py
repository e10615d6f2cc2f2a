"""How long the server takes to answer a change of query: the page's whole script, without a browser.

python benchmarks/pages.py [--run NAME] [--count 50] [--json]
"""

import argparse
import json
import logging
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for reid_core and app

from streamlit.testing.v1 import AppTest

from reid_core.data import prepare

MAIN = Path(__file__).resolve().parents[1] / "app" / "main.py"
TARGET = 300  # milliseconds, median


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--run", help="default: the run that the app shows first")
    asked.add_argument("--count", type=int, default=50, help="changes of query (default 50)")
    asked.add_argument("--json", action="store_true")
    asked = asked.parse_args()
    logging.disable(logging.WARNING)  # Streamlit misses its server
    prepare("pedestrians")
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    if asked.run:
        app.query_params["run"] = asked.run
    app.run()
    app.switch_page("../pages/retrieval.py")
    first = milliseconds(app.run)
    if not any(button.key == "next" for button in app.button):
        sys.exit("pages.py: the run has no embeddings; give another --run")
    times = {}
    for name, button in (("next query", "next"), ("random query", "random")):
        times[name] = [milliseconds(app.button(key=button).click().run) for _ in range(asked.count)]
    result = dict(
        run=app.session_state["run"],
        queries=len(app.selectbox(key="query").options),
        first_view_ms=round(first),
        target_ms=TARGET,
        changes={name: summary(values) for name, values in times.items()},
    )
    print(json.dumps(result, indent=2) if asked.json else table(result))
    return 0


def milliseconds(act) -> float:
    started = time.perf_counter()
    app = act()
    spent = 1000 * (time.perf_counter() - started)
    if app.exception:
        sys.exit(f"pages.py: the page failed: {app.exception[0].message}")
    return spent


def summary(values: list[float]) -> dict[str, float]:
    return dict(
        median_ms=round(statistics.median(values), 1),
        ninth_decile_ms=round(statistics.quantiles(values, n=10)[-1], 1),
        count=len(values),
    )


def table(result: dict) -> str:
    lines = [
        f"run {result['run']}, {result['queries']} queries; target {TARGET} ms (median)",
        f"{'':<16}{'median':>10}{'9th decile':>12}{'count':>8}",
        f"{'first view':<16}{result['first_view_ms']:>7} ms",
    ]
    for name, each in result["changes"].items():
        lines.append(
            f"{name:<16}{each['median_ms']:>7} ms{each['ninth_decile_ms']:>9} ms{each['count']:>8}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
