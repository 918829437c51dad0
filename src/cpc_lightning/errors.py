"""Exceptions whose message is one line that tells the user what to change.

Everything that a user can get wrong raises `InputError`; the command line prints its one line and exits with code 2.
Nothing here imports the rest of the library.
"""

from __future__ import annotations

import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real

TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that have a terminal show the text after them in another order."""


class InputError(ValueError):
    """A setting, a file or a folder that cannot be used.

    Attributes:
        setting: the setting's name, relative to what raised it ("rate") or full ("noise.rate").
        value: the offending value, as the user gave it.
        expected: what would be right, or what is wrong with the value, in plain words.
    """

    def __init__(self, setting: str, value: object, expected: str) -> None:
        super().__init__(setting, value, expected)
        self.setting, self.value, self.expected = setting, value, expected

    def __str__(self) -> str:
        return one_line(f"{self.setting}={as_typed(self.value)}: {self.expected}")

    def within(self, group: str) -> InputError:
        """The same error with its setting named from `group` on, e.g. "rate" within "noise" is "noise.rate"."""
        return type(self)(f"{group}.{self.setting}", self.value, self.expected)


class TrainingError(RuntimeError):
    """Training cannot go on, for a reason that its message gives; the last good checkpoint stays."""


class Stopped(BaseException):  # not an Exception, for the reason that KeyboardInterrupt is none
    """A signal asks the run to stop.

    Attributes:
        signal: which one.
        exit_code: 128 + its number, as shells have it: 130, 143 or 138.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number


def as_typed(value: object) -> str:
    """`value` as a command line has it: null, true, [1, a]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_typed, value))}]"
    return value if isinstance(value, str) else repr(value)


def one_line(text: str) -> str:
    """`text` with line breaks and control characters escaped, so that a hostile name cannot forge output.

    What turns the direction of a line is one; the wide and narrow spaces and the joiners of many languages are none.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else c.encode("unicode_escape").decode() for c in text)


def _is_harmless(character: str) -> bool:
    spaces_and_signs = unicodedata.category(character) in ("Zs", "Cf", "Co", "Cn") and character not in TURNS
    return character.isprintable() or spaces_and_signs


def print_anything() -> None:
    """Have standard output escape what its encoding lacks, as standard error does: a name must not end a run."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a notebook's has none, and takes everything
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def count_of(number: int, thing: str) -> str:
    """A number and what it counts: "1 error", "2,000 errors", "3 processes"."""
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number:,} {thing}{ending}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; what kind of error it is, where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require(condition: bool, setting: str, value: object, expected: str) -> None:
    """Raise `InputError` unless `condition` holds."""
    if not condition:
        raise InputError(setting, value, expected)


def require_integer(setting: str, value: object, minimum: int) -> None:
    """Raise `InputError` unless `value` is a whole number (no bool) of at least `minimum`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    expected = f"must be a whole number of at least {minimum}{_quoted(value)}"
    require(whole and value >= minimum, setting, value, expected)  # type: ignore[operator]


@contextmanager
def written(setting: str, value: object, advice: str = "") -> Iterator[None]:
    """Within the block, what the disk refuses is an `InputError` of the setting that says where to write.

    Args:
        setting: its name.
        value: the file or folder that it names.
        advice: what to do about it, to go on with.
    """
    try:
        yield
    except OSError as error:
        raise InputError(setting, str(value), f"cannot be written ({error.strerror or error}){advice}") from error


def require_number(
    setting: str, value: object, low: float, high: float = float("inf"), *, open_ends: bool = False
) -> None:
    """Raise `InputError` unless `value` is a finite number in [low, high], or in (low, high) with `open_ends`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    inside = number and (low < value < high if open_ends else low <= value <= high) and value != float("inf")  # type: ignore[operator]
    if high == float("inf"):
        expected = f"must be a number {'above' if open_ends else 'of at least'} {low:g}"
    else:
        left, right = "()" if open_ends else "[]"
        expected = f"must be a number in {left}{low:g}, {high:g}{right}"
    require(inside, setting, value, expected + _quoted(value))


def _quoted(value: object) -> str:
    """What more is to be said of a text where a number belongs: training.epochs='3' looks like one."""
    return ", without quotes" if isinstance(value, str) and any(c.isdigit() for c in value) else ""


def require_switch(setting: str, value: object) -> None:
    """Raise `InputError` unless `value` is true or false."""
    require(isinstance(value, bool), setting, value, "must be true or false")


def require_path(setting: str, value: object) -> None:
    """Raise `InputError` unless `value` is the name of a file or a folder: a text that is not empty."""
    require(isinstance(value, str) and value != "", setting, value, "must be a path")
