"""The table of pages: a page is one file in pages/ and one row here."""

from pathlib import Path

import streamlit as st

PAGES = Path(__file__).resolve().parents[1] / "pages"

# Section -> file stem -> title, icon, what the reader finds there.
CONTENTS: dict[str, dict[str, tuple[str, str, str]]] = {
    "": {
        "home": ("Home", ":material/home:", "What this is, and the runs there are."),
    },
    "Experiments": {
        "data": ("Data", ":material/folder_open:", "What a folder of pictures is, and its faults."),
        "train": ("Train", ":material/model_training:", "Start a training and watch it learn."),
        "retrieval": ("Retrieval", ":material/image_search:", "Ranked galleries, query by query."),
        "scores": ("Scores", ":material/speed:", "A run's numbers, how sure, by which protocol."),
        "ledger": (
            "Ledger",
            ":material/menu_book:",
            "Published numbers beside those of your runs.",
        ),
    },
    "Look inside": {
        "attention": (
            "Attention",
            ":material/visibility:",
            "Where a model looks, and how it gets there.",
        ),
        "divergence": ("Order lab", ":material/compare_arrows:", "How far attention maps differ."),
        "neighbours": ("Neighbours", ":material/hub:", "NFormer: whom a query listens to."),
        "frequency": ("Frequency", ":material/graphic_eq:", "Texture and colour: who sees what."),
        "clusters": (
            "Clusters",
            ":material/scatter_plot:",
            "All embeddings as a map, and its limits.",
        ),
        "errors": (
            "Errors",
            ":material/troubleshoot:",
            "Why a query fails, and how many do alike.",
        ),
    },
}


def page(stem: str) -> st.Page:
    """The page of a file, for navigation and for links."""
    title, icon, about = next(rows[stem] for rows in CONTENTS.values() if stem in rows)
    file, first = PAGES / f"{stem}.py", stem == "home"
    return st.Page(file, title=title, icon=icon, help=about, url_path=stem, default=first)


def link(label: str, stem: str, icon: str, disabled: bool = False, **chosen: str) -> None:
    """A way into a page with a run, and perhaps a query, already chosen."""
    target = page(stem)
    icon = f":material/{icon}:"
    st.page_link(target, label=label, icon=icon, disabled=disabled, query_params=chosen)


def navigation() -> st.Page:
    """The menu; returns the page that was asked for."""
    return st.navigation({name: [page(stem) for stem in rows] for name, rows in CONTENTS.items()})
