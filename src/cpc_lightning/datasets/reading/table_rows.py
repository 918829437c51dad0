"""Reads the rows of a csv file; errors are an `InputError` that names the line."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cpc_lightning.errors import InputError, require

_LINE_END = re.compile("\r\n|\r|\n")


def rows_of(
    table: Path, encoding: str | None, check: Callable[[Sequence[str]], None]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and content of each row; cells that a row lacks are blank.

    Where the header has blanks after its commas, those of all lines are left aside.

    Args:
        table: the file.
        encoding: of its text; None: UTF-8, with or without a mark at its beginning.
        check: told the columns before the first row, for it to object.

    Raises:
        InputError: named "file" or "encoding", if the file cannot be read, or a line does not parse.
    """
    require_encoding(encoding)
    line = 1
    try:
        # newline="": the csv module sees to line ends itself. strict: a stray quote is an error, not a guess.
        with open(table, encoding=_with_mark(encoding), newline="") as lines:
            spaced = ", " in lines.readline()
            lines.seek(0)
            reader = csv.DictReader(lines, strict=True, skipinitialspace=spaced, restval="")
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            check(columns)
            twice = next((name for name, times in Counter(columns).items() if name and times > 1), None)
            require(twice is None, "file", str(table), f"has two columns {twice}")
            line = 2
            for row in reader:
                line = reader.line_num
                if None in row:
                    more = f"line {line}: has more fields than the header; quote what holds a comma"
                    raise InputError("file", str(table), more)
                yield line, row
                line += 1
    except csv.Error as error:
        raise InputError("file", str(table), f"line {line} is no csv: {error}") from None
    except UnicodeError:
        raise not_decoded(table, encoding) from None
    except OSError as error:
        raise InputError("file", str(table), f"cannot be read: {error.strerror or error}") from None


OTHER_FILES: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive, which an Excel workbook (.xlsx) is too: save it as csv, UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls): save it as csv, UTF-8",
    b"\x1f\x8b": "compressed (gzip): unpack it",
    b"PAR1": "a Parquet file: write it as csv",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
"""What is taken for a table by mistake, by its first bytes."""


def require_encoding(encoding: object) -> None:
    """Raise `InputError` unless `encoding` is None or the name of a text's encoding."""
    expected = "is no encoding of texts, such as utf-8, cp1252 (Windows in Western Europe) or utf-16"
    if encoding is None:
        return
    require(isinstance(encoding, str) and encoding != "", "encoding", encoding, expected)
    try:
        "".encode(str(encoding))
    except (LookupError, ValueError):  # ValueError: a null character in its name, or a codec that refuses texts
        raise InputError("encoding", encoding, expected) from None


def _with_mark(encoding: str | None) -> str:
    """The encoding; of UTF-8 the kind that takes a mark at the beginning, which Excel writes."""
    return "utf-8-sig" if encoding is None or codecs.lookup(encoding).name == "utf-8" else encoding


def not_decoded(table: Path, encoding: str | None) -> InputError:
    """The error that names the line of a file whose text is not of the encoding."""
    content = table.read_bytes()
    other = next((what for mark, what in OTHER_FILES.items() if content.startswith(mark)), None)
    if other is not None:
        return InputError("file", str(table), f"is no csv but {other}")
    if encoding is None and content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return InputError("file", str(table), "line 1 is not UTF-8: the text is UTF-16; dataset.encoding=utf-16")
    name, line, shown = encoding or "utf-8", 1, ""
    try:
        content.decode(name)
    except UnicodeDecodeError as error:
        lines = _LINE_END.split(content[: error.start].decode(name, errors="replace"))
        line, shown = len(lines), f" (byte {content[error.start]:#04x} after {lines[-1][-20:]!r})"
    except UnicodeError as error:  # no mark at the beginning of UTF-16, say
        shown = f" ({error})"
    if encoding is not None:
        return InputError("encoding", encoding, f"line {line} of {table} is not of this encoding{shown}")
    how = "dataset.encoding=cp1252 for a table from Windows, or save it as UTF-8"
    return InputError("file", str(table), f"line {line} is not UTF-8{shown}: {how}")
