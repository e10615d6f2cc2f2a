"""The Neighbour lab: which runs have it, what to look at first, and what is drawn."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app import address, cached, contents, pickers
from app.lessons import Step
from app.notices import explained, plain, say
from reid_core.analysis import neighbours as analysis
from reid_core.models import MODELS
from reid_core.retrieve import RankedList
from reid_core.runs import Run, list_runs

GRAPH, LANDMARKS, COUNT, SIZE = "Graph", "Landmarks", "Neighbours", "Set size"
PARTS = [GRAPH, LANDMARKS, COUNT, SIZE]
MEAN, QUERY, SEEDS = "mean", "query", 100
DRAW = 230  # pixels: "0 (the run's own)" has to fit in a projector's large type too
PAPER = "Wang et al., NFormer, CVPR 2022"


def ready(run: Run) -> None:
    """End the page with a word on why where a run's images don't look at one another."""
    if not MODELS[run.experiment.model].refines:
        say(
            "info",
            f"In run {run.name} every image is embedded alone, so it has no neighbour graph. NFormer's "
            "images look at one another; it can be trained over this run's features too (the knob "
            "encoder on the page Train). Runs that have it:",
        )
        _offers()
        address.stop()
    if not run.has_embeddings or not run.has_weights:
        lacking = "weights.safetensors" if run.has_embeddings else "embeddings.npz"
        say("info", str(run.lacks(lacking)))
        address.stop()
    with explained():
        encoded = cached.embeddings(run.name, run.stamp()).encoded
    if encoded is None:
        say("info", f"So far only the encoder of run {run.name} is trained: nobody is refined yet.")
        address.stop()


def _offers() -> None:
    """Ways to the runs whose images look at one another."""
    able = [run for run in list_runs() if MODELS[run.experiment.model].refines]
    with st.container(horizontal=True, gap="medium"):
        for run in able[:6]:
            contents.link(plain(run.name), "neighbours", "hub", run=run.name)
    if not able:
        st.caption("None yet. The page Train starts one.")


def steps(run: str, stamp: int) -> list[Step]:
    """What to look at: the queries that gain and lose most, and the layer whose weights differ least."""
    before, after = cached.gains(run, stamp)
    labels, seed = cached.labels(run, stamp), _seed(run, stamp)
    seen = cached.attention(run, stamp, seed)
    gain = after - before
    best, worst = int(np.nanargmax(gain)), int(np.nanargmin(gain))
    extremes = (
        (best, "Largest gain" if gain[best] > 0 else "Smallest loss"),
        (worst, "Largest loss" if gain[worst] < 0 else "Smallest gain"),
    )
    usual = {"part": GRAPH, "layer": MEAN, "head": MEAN, "middle": QUERY}
    counts = cached.effective(run, stamp, seed)
    mutual = float(seen.mutual.sum(axis=1).mean())
    flat = int(counts.argmax())
    kind = "nearly a plain mean of them" if counts[flat] > 0.95 * mutual else "no plain mean"
    text = (
        f"In layer {flat + 1} an image has {mutual:.2f} mutual neighbours on average, and by the "
        f"entropy of its weights {counts[flat]:.2f} of them count: it takes {kind}. "
        f"The smallest such number is {counts.min():.2f}, in layer {int(counts.argmin()) + 1}."
    )
    return [
        *(
            Step(title, _told(run, stamp, query, title, seen), usual | {"query": labels[query]})
            for query, title in extremes
        ),
        Step("How equal the weights are", text, usual | {"layer": str(flat + 1)}),
    ]


def _seed(run: str, stamp: int) -> int:
    return max(cached.experiment(run, stamp).options.landmark_seed, 0)


def _told(run: str, stamp: int, position: int, what: str, seen: analysis.Attention) -> str:
    """What happened to a query's average precision, and whom it and its true matches listen to."""
    label = plain(cached.labels(run, stamp)[position])
    before, after = (each[position] for each in cached.gains(run, stamp))
    found = cached.embeddings(run, stamp)
    own = analysis.falls_on(seen, found.identities, [found.query_rows[position]])
    theirs = analysis.falls_on(seen, found.identities, true_matches(run, stamp, position))
    return (
        f"The average precision of query {label} goes from {before:.2f} to {after:.2f}, the "
        f"{what.lower()} of all queries. It gives {own['right']:.0%} of its weight to other images of "
        f"the same person and {own['others']:.0%} to other people; the "
        f"gallery is refined as well, and there its true matches give {theirs['right']:.0%} to the same "
        f"person and {theirs['others']:.0%} to others."
    )


def true_matches(run: str, stamp: int, position: int) -> np.ndarray:
    """Rows of a query's true matches in the gallery."""
    ranking = cached.ranked(run, stamp, position)
    return ranking.rows[ranking.match & ~ranking.ignored]


@dataclass(frozen=True)
class Chosen:
    """What the graph is drawn of. row of the image in its middle, as a rule the query's; seed of the
    landmarks; own is the run's, None where nobody kept it; layer and head count from 0, None is the
    mean."""

    run: Run
    stamp: int
    query: int
    row: int
    seed: int
    own: int | None
    layer: int | None
    head: int | None

    @property
    def query_row(self) -> int:
        return int(cached.embeddings(self.run.name, self.stamp).query_rows[self.query])

    @property
    def name(self) -> str:
        """What the image in the middle is called."""
        if self.row == self.query_row:
            return "the query"
        names = cached.embeddings(self.run.name, self.stamp).names
        return str(names[self.row]).rsplit("/", 1)[-1]

    @property
    def stored(self) -> bool:
        """Whether the ranked lists are those of the stored features."""
        return self.seed == self.own

    @property
    def before(self) -> RankedList:
        return cached.ranked_before(self.run.name, self.stamp, self.query)

    @property
    def after(self) -> RankedList:
        name, stamp = self.run.name, self.stamp
        if self.stored:
            return cached.ranked(name, stamp, self.query)
        return cached.ranked_redrawn(name, stamp, self.query, self.seed)


def choose(run: Run, stamp: int) -> Chosen:
    """The pickers of the graph: query, layer, head and draw of the landmarks."""
    options = cached.experiment(run.name, stamp).options
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    with bar:
        pickers.order(run.name, stamp)
    position = pickers.query(run.name, stamp)
    own = options.landmark_seed if options.landmark_seed >= 0 else None
    picked = []
    for name, count in (("Layer", options.layers), ("Head", options.heads)):
        key = name.lower()
        pickers.linked(key, [MEAN, *(str(n + 1) for n in range(count))], MEAN)
        names = [MEAN, *(str(n + 1) for n in range(count))]
        chosen = bar.segmented_control(name, names, key=key, required=True)
        picked.append(None if chosen == MEAN else int(chosen) - 1)
    seeds = [str(seed) for seed in sorted({*range(SEEDS), max(own or 0, 0)})]
    pickers.linked("draw", seeds, str(own or 0))
    called = {seed: f"{seed} (the run's own)" if seed == str(own) else seed for seed in seeds}
    pickers.labelled("draw", called)
    help_ = (
        "The landmarks are drawn at random from a seed. Another draw is another pass over the set."
    )
    seed = bar.selectbox("Draw", seeds, key="draw", format_func=called.get, width=DRAW, help=help_)
    bar.button(
        "Draw anew", icon=":material/casino:", key="draw anew", on_click=_next, args=(seeds,)
    )
    return Chosen(run, stamp, position, _middle(run, stamp, position), int(seed), own, *picked)


def _middle(run: Run, stamp: int, position: int) -> int:
    """The row of the image whose neighbours are drawn: a clicked one until the query changes."""
    found, state = cached.embeddings(run.name, stamp), st.session_state
    names, asked = found.names.tolist(), (run.name, position)
    if state.setdefault("middle of", asked) != asked:
        state["middle of"], state["middle"] = asked, QUERY
    gone = pickers.missing("middle", [QUERY, *names], QUERY, of=asked)
    shown = "the query" if state["middle"] == QUERY else state["middle"]
    if gone:
        say("warning", f"Run {run.name} has no image {gone}; in the middle is {shown}.")
    if state["middle"] == QUERY:
        return int(found.query_rows[position])
    return names.index(state["middle"])


def back() -> None:
    """Put the query in the middle again."""
    st.session_state["middle"] = QUERY


def _next(seeds: list[str]) -> None:
    state = st.session_state
    state["draw"] = seeds[(seeds.index(state["draw"]) + 1) % len(seeds)]
