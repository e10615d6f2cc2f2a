"""Who may start trainings: whoever sits at this machine, or everybody if the host says so."""

import os

import streamlit as st

LOOPBACK = ("localhost", "127.0.0.1", "::1")
WHY_NOT = (
    "Starting, stopping and resuming trainings and typing server paths are off, because this server "
    "can be reached from other machines. To turn them on, start it with `REID_ALLOW_TRAINING=1`, or "
    "with `--server.address localhost`."
)


def training_allowed() -> bool:
    """Whether a visitor may start processes and name folders on this machine."""
    return os.environ.get("REID_ALLOW_TRAINING") == "1" or local()


def local() -> bool:
    """Whether only this machine reaches the server."""
    return st.get_option("server.address") in LOOPBACK
