"""What is in a folder of pictures, before anybody trains on it: which data set it is and why, whether
it is whole, and what is odd about it."""

import streamlit as st

from app import browse, doctor
from app.notices import heading

heading("Data", __doc__)
place = doctor.choose()
doctor.recognised(place)
found = doctor.checkup(place)
doctor.counts(place, found)

st.header("Checkup", anchor=False)
doctor.show_checkup(place)

st.header("Look through it", anchor=False)
browse.identity(place)
browse.overview(place, found)
