"""What goes wrong, said on the page in one line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app import address
from reid_core.errors import BadInput, as_told, is_short_of_memory


@contextmanager
def explained(level: str = "error") -> Iterator[None]:
    """Show bad input, or a lack of memory or of a package, as a message (st.error, st.warning or
    st.info) and end the page there."""
    try:
        yield
    except Exception as problem:
        lack = is_short_of_memory(problem) or isinstance(problem, ModuleNotFoundError)
        told = as_told(problem) if lack else problem
        if not isinstance(told, BadInput):
            raise
        say(level, str(told))
        address.stop()


def say(level: str, message: str) -> None:
    """A message whose text is shown as it is: a file name may hold Markdown."""
    icons = {
        "error": ":material/error:",
        "warning": ":material/warning:",
        "info": ":material/info:",
    }
    getattr(st, level)(plain(as_sentence(message)), icon=icons[level])


def as_sentence(message: str) -> str:
    """A message with a capital, unless it begins with the name of a knob or a file."""
    word = message.partition(" ")[0].translate({ord(sign): None for sign in "'-,"})
    return message[:1].upper() + message[1:] if word.isalpha() else message


def plain(text: str) -> str:
    """Text with Markdown's signs escaped, and bytes of a file's name that are no text."""
    return "".join(
        "\\" + sign if sign in "\\`*_{}[]()#+!|~$<>:" else sign for sign in readable(text)
    )


def readable(text: str) -> str:
    """Text that can be sent: bytes of a file's name that are no UTF-8 as \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode()


def heading(title: str, docstring: str) -> None:
    """A page's title and, as its subtitle, the docstring of its file."""
    st.title(title, anchor=False)
    st.markdown(f":gray[{' '.join(docstring.split())}]")
