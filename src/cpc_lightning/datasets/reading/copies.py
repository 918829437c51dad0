"""Finds images that occur several times, among the images to train on and in the sets to evaluate on.

Copies count several times in training, confirm each other's labels, and make a test too easy.

Shapes: N images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cpc_lightning.files import usable_cores

MOST = 200_000
"""Of more files not even the sizes are looked at: on a network's disk that alone takes minutes."""
MOST_READ = 20_000
"""How many files are read to compare them; of more, those of some sizes: a copy is as large as its original."""


@dataclass(frozen=True)
class Looked:
    """The images of one set, for comparison.

    Attributes:
        digests: N, equal for copies; b"" for an image that has none, or was not looked at.
        among: how many images were looked at.
        names: N file names.
        labels: N labels.
    """

    digests: Sequence[bytes]
    among: int
    names: Sequence[str]
    labels: Sequence[int]


def file_digests(files: Mapping[str, tuple[int, Callable[[int], str]]]) -> dict[str, tuple[list[bytes], int]]:
    """Digests of the files' contents by set, as in `Looked`, and how many were looked at; empty for too many files.

    Args:
        files: of each set their number, and what answers the full name of one.
    """
    if sum(count for count, _ in files.values()) > MOST:
        return {}
    sizes = {name: np.array([_size(file(k)) for k in range(count)], np.int64) for name, (count, file) in files.items()}
    everything = np.concatenate(list(sizes.values()))
    values, times = np.unique(everything[everything >= 0], return_counts=True)
    shared, scattered = values[times > 1], values[times > 1] * 2_654_435_761 % 2**32
    share = MOST_READ / max(int(times[times > 1].sum()), 1)
    read = shared[scattered < share * 2**32]
    found = {}
    with ThreadPoolExecutor(usable_cores() + 4) as threads:
        for name, (count, file) in files.items():
            wanted = np.flatnonzero(np.isin(sizes[name], read)).tolist()
            digests = [b""] * count
            for k, digest in zip(wanted, threads.map(lambda k, file=file: _digest(file(k)), wanted), strict=True):
                digests[k] = digest
            among = count if share >= 1 else int((sizes[name] * 2_654_435_761 % 2**32 < share * 2**32).sum())
            found[name] = digests, among
    return found


def remarks_on_copies(train: Looked, evaluation: Mapping[str, Looked]) -> list[str]:
    """Lines on copies: among the images to train on, and of these in each set to evaluate on."""
    first: dict[bytes, int] = {}
    pairs = [
        (first[digest], k)
        for k, digest in enumerate(train.digests)
        if digest and first.setdefault(digest, k) != k
    ]  # fmt: skip
    lines = []
    if pairs:
        shown = _shown([(train.names[a], train.names[b]) for a, b in pairs])
        other = sum(train.labels[a] != train.labels[b] for a, b in pairs)
        labels = f"; {other:,} of them with another label" if other else ""
        lines.append(f"{_share(len(pairs), train, 'to train on')} are copies of others: {shown}{labels}")
    for name, part in evaluation.items():
        both = [(first[digest], k) for k, digest in enumerate(part.digests) if digest in first]
        if both:
            shown = _shown([(part.names[b], train.names[a]) for a, b in both])
            lines.append(f"{_share(len(both), part, f'of {name}')} are trained on too: {shown}")
    return lines


def digest_of(content: bytes | memoryview) -> bytes:
    """16 bytes that are equal for equal contents, and never empty."""
    return hashlib.blake2b(content, digest_size=16).digest()


def _share(count: int, part: Looked, what: str) -> str:
    among = f"{part.among:,}" + (" looked at" if part.among < len(part.digests) else "")
    return f"{count:,} of {among} images {what} ({100 * count / part.among:.1f} %)"


def _shown(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{a} = {b}" for a, b in pairs[:3]) + (", ..." if len(pairs) > 3 else "")


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except (OSError, ValueError):  # whoever needs it says so
        return -1


def _digest(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return digest_of(opened.read())
    except OSError:
        return b""
