"""A knob: one typed, documented field that becomes a flag, a form row and a line in the record."""

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from reid_core.errors import BadInput


@dataclass(frozen=True)
class Knob:
    """What a form and a command line need to know of one field.

    kind is "bool", "int", "float", "str", "choice", "size" or "run" (the name of one, or empty);
    choices is a tuple for "choice"; least and most bound the value, if they are given; unit stands
    beside the name in a form.
    """

    name: str
    kind: str
    default: Any
    help: str
    group: str
    choices: tuple[str, ...] | None = None
    least: float | None = None
    most: float | None = None
    unit: str = ""

    def parse(self, given: Any) -> Any:
        """The value in this knob's type, from text or from JSON. Raises BadInput."""
        try:
            value = _READERS[self.kind](given)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise BadInput(f"{self.name}: expected {self.expected}, got {given!r}") from None
        if self.choices and value not in self.choices:
            raise BadInput(f"{self.name}: {unknown('value', str(value), self.choices)}")
        low = self.least is not None and value < self.least
        if low or (self.most is not None and value > self.most):
            raise BadInput(f"{self.name}: expected {self.expected}, got {given!r}")
        return value

    @property
    def expected(self) -> str:
        words = {
            "bool": "true or false",
            "int": "a whole number",
            "float": "a number",
            "str": "text",
            "choice": f"one of {', '.join(self.choices or ())}",
            "size": "height x width in pixels, each from 16 to 4096, such as 256x128",
            "run": "the name of a run",
        }[self.kind]
        words += "" if self.least is None else f" of {self.least} or more"
        return words if self.most is None else f"{words}, {self.most} at most"


def knob(
    default: Any,
    help: str,
    group: str,
    *,
    kind: str | None = None,
    choices: tuple = (),
    least: float | None = None,
    most: float | None = None,
    unit: str = "",
):
    """A dataclass field that carries its help, its group, its limits and its unit; kind where neither the
    default nor the choices tell it."""
    usual = "size" if isinstance(default, tuple) else type(default).__name__
    kind = kind or ("choice" if choices else usual)
    return field(
        default=default,
        metadata=dict(
            kind=kind,
            help=help,
            group=group,
            choices=choices or None,
            least=least,
            most=most,
            unit=unit,
        ),
    )


def knobs_of(owner: type) -> list[Knob]:
    """The knobs that a dataclass declares, in its order."""
    return [Knob(f.name, default=f.default, **f.metadata) for f in fields(owner) if f.metadata]


def unknown(noun: str, given: str, known, of: str = "") -> str:
    """`unknown model 'transrid'; did you mean transreid?` or, without a near one, the whole list. of:
    what kind they all are; then the list follows in any case."""
    if not known:
        return f"unknown {noun} {given!r}; there is none"
    near = get_close_matches(given, list(known), n=3, cutoff=0.5)
    said = f"unknown {noun} {given!r}" + f"; did you mean {' or '.join(near)}?" * bool(near)
    if of:
        return f"{said} ({of} only: {', '.join(known)})"
    return said if near else f"{said}; there are: {', '.join(known)}"


def _read_bool(given: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    if str(given).lower() not in words:
        raise ValueError
    return words[str(given).lower()]


def _read_int(given: Any) -> int:
    if isinstance(given, bool) or float(given) % 1:
        raise ValueError
    return (
        int(given)
        if isinstance(given, int) or str(given).lstrip("-").isdigit()
        else int(float(given))
    )


def _read_float(given: Any) -> float:
    number = float(given)
    if isinstance(given, bool) or number != number or abs(number) == float("inf"):
        raise ValueError
    return number


def read_size(given: Any) -> tuple[int, int]:
    """(height, width) from "256x128" or a pair. Raises ValueError."""
    height, width = given.lower().split("x") if isinstance(given, str) else given
    size = (int(height), int(width))
    if min(size) < 16 or max(size) > 4096:
        raise ValueError
    return size


_READERS = {
    "bool": _read_bool,
    "int": _read_int,
    "float": _read_float,
    "str": str,
    "choice": str,
    "size": read_size,
    "run": str,
}
