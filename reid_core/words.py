"""How lists and counts are said."""

from collections.abc import Iterable, Sized


def few(words: Iterable[str], most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    words = [str(word) for word in words]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def number(things: Sized, noun: str) -> str:
    """How many there are of a noun: 1 image, 1,200 images."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{len(things):,} {noun if len(things) == 1 else plural}"
