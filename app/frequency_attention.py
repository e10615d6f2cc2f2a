"""The Frequency lab's view of attention: how much of its output comes from which tokens."""

import numpy as np
import pandas as pd
import streamlit as st

from app import charts_frequency, figures, pickers
from app.charts_frequency import Line
from app.figures import Said
from app.frequency_tokens import Found, colours, images_of, results_of
from app.notices import plain, say
from reid_core.analysis import frequency as measures
from reid_core.analysis.intervals import band
from reid_core.runs import Run

EVERY, SOME = "all tokens", "high-frequency ones"


def show(run: Run) -> None:
    """The view: how much of each layer's attention output comes from which tokens."""
    runs, results = results_of(run)
    if not results:
        return
    with_maps = {name: found for name, found in results.items() if len(found["attention_layers"])}
    for name in results.keys() - with_maps.keys():
        say("info", f"{name} has no self-attention between tokens: there is nothing to split.")
    if not with_maps:
        return
    pickers.linked("over", [EVERY, SOME], EVERY)
    st.segmented_control("Averaged over", [EVERY, SOME], key="over", required=True)
    row = int(st.session_state["over"] == SOME)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _taken(runs, with_maps, row)
    with right:
        _stacked(next(iter(with_maps.items())), row)


SPLIT = Said(
    "",
    r"$o_i - b = \underbrace{\sum_{j\in H} W_O\,a_{ij}v_j}_{\text{high}} + "
    r"\underbrace{\sum_{j\in L} W_O\,a_{ij}v_j}_{\text{low}} + "
    r"\underbrace{\sum_{j\in P} W_O\,a_{ij}v_j}_{\text{class token}}$"
    "\n\nA share is the mean length of one sum over the three mean lengths, heads joined.",
    "PHA (Zhang et al., CVPR 2023), section 3.1, as our notes tell it; comparing lengths is ours. "
    "Lengths of parts do not add to that of the whole.",
    (measures.split_outputs, measures.attention_parts, measures.attention_shares),
)


def _taken(runs: list[Run], results: dict[str, Found], row: int) -> None:
    curves, rows, shades = [], [], colours(runs)
    for name, found in results.items():
        real = found["attention"][:, :, row, 0]  # (A, n)
        random = found["attention_random"][:, :, :, row, 0].mean(axis=1)
        names = [str(layer) for layer in found["attention_layers"]]
        for values, quiet in ((real, False), (random, True)):
            label = f"{name}, random" if quiet else name
            value, (low, high) = values.mean(axis=1), band(values.T)
            across = np.arange(1, len(value) + 1)
            texts = () if quiet else names
            curves.append(Line(label, shades[name], across, value, low, high, texts, quiet))
            rows.append(pd.DataFrame(dict(run=label, layer=names, share=value, low=low, high=high)))
    figure = charts_frequency.lines(curves, "layer", "share from high-frequency tokens")
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    figure.update_xaxes(dtick=1, rangemode="normal")
    images = images_of({name: found["attention"].shape[1] for name, found in results.items()})
    caption = (
        "How much of a token's attention output comes from high-frequency tokens, averaged over "
        f"{st.session_state['over']} of an image: mean and 95 % bootstrap interval over {images} test "
        "images. Dotted: the same for random splits of the same sizes, over whose own tokens it is then "
        "averaged. Above its dotted line a layer takes more from "
        "detail than chance would, below it less."
    )
    last = ", ".join(f"{line.name} {line.values[-1]:.0%}" for line in curves)
    figures.chart(
        figure,
        Said(caption, SPLIT.formula, SPLIT.source, SPLIT.code),
        key="taken",
        alt=f"Share of attention from high-frequency tokens by layer; in the last one: {last}",
        table=pd.concat(rows),
    )


def _stacked(result: tuple[str, Found], row: int) -> None:
    name, found = result
    shares = found["attention"][:, :, row].mean(axis=1)  # (A, 3)
    layers = [str(number) for number in range(1, len(shares) + 1)]
    frame = pd.DataFrame(shares, columns=list(measures.ROLES))
    frame.insert(0, "layer", found["attention_layers"])
    figures.chart(
        charts_frequency.parts(shares, layers, measures.ROLES),
        Said(
            f"All three sums of {plain(name)}, means over the same images.",
            SPLIT.formula,
            SPLIT.source,
            SPLIT.code,
        ),
        key="stacked",
        alt=f"Shares of attention by layer of {name} from high, low and class tokens",
        table=frame,
    )
