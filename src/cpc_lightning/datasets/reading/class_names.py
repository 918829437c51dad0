"""Reads labels as people write them: names, numbers with or without .0, words for a missing label."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?|inf(inity)?)", re.ASCII | re.IGNORECASE)
_LARGEST = 10**9
"""From here on a number is a name: a barcode, say."""
_MISSING = ("", "nan", "<na>")
_LIKE_MISSING = ("na", "n/a", "none", "null", "unlabeled", "unlabelled", "?")


def number_of(text: str) -> float | None:
    """The number that `text` spells, infinity included; None where it is none."""
    return float(text) if _NUMBER.fullmatch(text) else None


def whole_number(text: str) -> int | None:
    """The whole number that `text` spells, 3 for "3", "3.0" and "3e0"; None for any other text."""
    number = number_of(text)
    return int(number) if number is not None and abs(number) < _LARGEST and number.is_integer() else None


def stray_numbers(texts: Iterable[str]) -> list[str]:
    """Labels that are no class although all are numbers: infinite ones, and 1e30 where another label is 0.

    Barcodes stay names: none of them is 0.
    """
    numbers = {text: number_of(text) for text in texts}
    found = [number for number in numbers.values() if number is not None]
    if len(found) < len(numbers):
        return []
    largest = _LARGEST if 0 in found else math.inf
    return [text for text, number in numbers.items() if number is not None and number >= largest]


def says_nothing(label: str) -> bool:
    """Whether a label means "not labeled": it is blank, nan (as pandas writes it) or a negative number."""
    number = number_of(label)
    return label.lower() in _MISSING or (number is not None and number < 0)


def in_order(names: Iterable[str]) -> list[str]:
    """Names of classes in their order: by number where all are numbers, so that 2 comes before 10; else as texts."""
    numbers = {name: number_of(name) for name in names}
    return sorted(numbers, key=lambda name: (0 if None in numbers.values() else numbers[name], name))


def remarks_on(names: Sequence[str]) -> list[str]:
    """Lines on classes that may be one and the same, and on those whose name says that there is none.

    Args:
        names: of K classes.
    """
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(_key(name), []).append(name)
    alike = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    lines = []
    if alike:
        lines.append(
            f"classes equal but for case, blanks, Unicode form or how a number is written: {_first(alike)}; "
            "if each is one class, write it in one way"
        )
    absent = [repr(name) for name in names if name.lower() in _LIKE_MISSING]
    if absent:
        lines.append(f"a class is called {_first(absent)}; if that means 'not labeled', leave those labels blank")
    return lines


def _key(name: str) -> object:
    """What names that are alike have in common."""
    number = number_of(name)
    if number is not None:
        return number
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(plain.split())


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")
