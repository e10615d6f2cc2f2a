"""The view Gates, below the relations: what a position's own feature does to RGA's gate."""

import streamlit as st

from app import cached, figures
from app.figures import Said
from app.pictures import Picture
from reid_core.analysis import gates
from reid_core.analysis.maps import place
from reid_core.look import Looked
from reid_core.models.rga import RelationAware

BOTH = "own and related"  # the kind of probe
FORMULA = r"""$$a_i = \sigma\!\left(W_2\,\mathrm{ReLU}\!\left(W_1\,[\,\mathrm{mean}\,\psi(x_i);\;
\varphi(\mathbf{r}_i)\,]\right)\right)$$

$\psi(x_i)$ is the embedding of the position's own feature, whose mean is one channel; $\varphi(\mathbf{r}_i)$ that of its
relations, of fewer channels than positions (the knob spatial_ratio)."""
SOURCE = (
    "Zhang et al., RGA, CVPR 2020, section 3.2. Holding one input at its mean is ours: it says what this "
    "gate, trained with both, owes to each, and is no ablation of the paper's, which trains anew."
)


def show(picture: Picture, looked: Looked, stage: str, kinds: tuple[str, ...]) -> None:
    """A stage's gate beside its own-feature channel, and from each of its two inputs alone."""
    probe = stage.rpartition(".")[0] + ".both"
    if probe not in looked.seen:
        return
    asked = picture.run, picture.stamp, picture.who
    made = cached.gate_made_of(*asked, probe, kinds, picture.content)
    tokens = looked.tokens[probe]
    st.subheader("A gate from its two inputs", anchor=False)
    own = made.own.reshape(tokens.grid)
    tiles = [
        picture.tile("own feature", tokens, own, scale="own", note=f"mean {own.mean():.3g}"),
    ]
    for label, each in (
        ("gate", made.gate),
        ("by own feature alone", made.of_own),
        ("by relations alone", made.of_relations),
    ):
        note = f"{each.min():.3g} to {each.max():.3g}"
        if each is not made.gate:
            note += f", r {gates.correlation(each, made.gate):.2f}"
        tile = picture.tile(label, tokens, each.reshape(tokens.grid), note=note)
        tiles.append(tile | dict(scale="shared"))
    figures.pictures(
        tiles,
        Said(
            f"{place(stage).capitalize()}: a position's gate is read from one channel of its own feature, drawn "
            "left on a scale of its own, and from its relations. Right the same gate with the other "
            "input held at its mean over the picture; r is Pearson's correlation with the gate.",
            FORMULA,
            SOURCE,
            (gates.made_of, RelationAware.weighed),
        ),
        key=picture.key("gate parts"),
        alt="; ".join(f"{tile['label']}: {tile['note']}" for tile in tiles),
        columns=4,
    )
