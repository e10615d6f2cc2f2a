"""ReID Attention Lab: `streamlit run app/main.py`."""

import sys
from pathlib import Path

# Streamlit puts app/ on the path, not the root above it, where app and reid_core are packages.
if (ROOT := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, ROOT)

import streamlit as st

from app import actions, address, components, contents, jobs, lessons, pickers, projector
from app.first_start import ensure_data
from app.notices import explained
from reid_core.ranking.ranks import warm

HERE = Path(__file__).parent

st.set_page_config("ReID Attention Lab", str(HERE / "icon.svg"), layout="wide")
st.logo(str(HERE / "logo.svg"), size="large", icon_image=str(HERE / "icon.svg"))
page = contents.navigation()
with address.told(page.url_path):
    ensure_data()
    jobs.revive()
    actions.acted()
    lessons.begin(page.url_path)
    pickers.sidebar_run()
    projector.switch(page.url_path)
    st.html(HERE / "figures.css")
    components.keys()
    pickers.missing_run()
    warm()
    with explained():
        page.run()
