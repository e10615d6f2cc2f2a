"""The page Order lab."""

import streamlit as st

from app.cached.base import DRAWS, experiment
from app.cached.mechanism_views import Who, looked_at
from reid_core.analysis import (
    orders,
)
from reid_core.analysis.costs import flops, one_image, parameters
from reid_core.analysis.orders import Apart, OrdersApart
from reid_core.models.base import Tokens
from reid_core.runs import open_run

MAPS = ("attention", "prior")


@st.cache_resource(max_entries=32, show_spinner=False)
def orders_apart(run: str, stamp: int, who: Who, _content: bytes | None) -> list[OrdersApart]:
    """A picture's orders, compared layer by layer. Raises BadInput."""
    seen = looked_at(run, stamp, who, MAPS, _content)
    return [orders.orders_apart(pair, DRAWS) for pair in orders.pairs(seen)]


@st.cache_resource(max_entries=32, show_spinner=False)
def comparable(
    run: str, stamp: int, who: Who, _content: bytes | None
) -> tuple[list[int], Tokens | None]:
    """Which layers have maps over the same tokens, and what these tokens are. Raises BadInput."""
    seen = looked_at(run, stamp, who, MAPS, _content)
    names = list(orders.comparable(seen))
    numbers = orders.numbered(seen)
    return [numbers[name] for name in names], seen.tokens[names[0]] if names else None


@st.cache_resource(max_entries=32, show_spinner=False)
def layers_apart(run: str, stamp: int, who: Who, _content: bytes | None) -> Apart:
    """A picture's layers compared with one another, each the mean of its heads. Raises BadInput."""
    seen = orders.comparable(looked_at(run, stamp, who, MAPS, _content))
    return orders.apart(orders.over_heads(list(seen.values()))[0], DRAWS)


@st.cache_resource(max_entries=32, show_spinner=False)
def heads_apart(run: str, stamp: int, who: Who, place: int, _content: bytes | None) -> Apart:
    """The heads of one of those layers compared with one another. Raises BadInput."""
    seen = orders.comparable(looked_at(run, stamp, who, MAPS, _content))
    return orders.apart(list(seen.values())[place][0], DRAWS)


@st.cache_resource(max_entries=64, show_spinner="Counting operations")
def cost(run: str, stamp: int) -> tuple[int, int]:
    """A model's parameters, and the floating point operations of one image. Raises BadInput."""
    built = open_run(run).model()
    height, width = experiment(run, stamp).training.size
    return parameters(built), flops(built, one_image(height, width))
