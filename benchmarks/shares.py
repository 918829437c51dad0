"""What each part of a run takes: the command line, with a clock around some of its functions.

python benchmarks/shares.py RESULT.json OVERRIDE ...
"""

from __future__ import annotations

import functools
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from memory import peak

PARTS = {
    "features": "cpc_lightning.features.pretrained:PretrainedFeatures.extract",
    "neighbours": "cpc_lightning.cleaning.posterior:nearest",
    "labels judged": "cpc_lightning.cleaning.probe:infer_true_classes",
    "training": "pytorch_lightning:Trainer.fit",
    "labels.csv": "cpc_lightning.app.run:write_verdict",
    "page": "cpc_lightning.app.run:write_report",
}
"""What is timed; a part that runs within another is not counted in that one."""


class Clock:
    """Seconds of each part by the clock, and of all cores together; those within another apart from it."""

    def __init__(self) -> None:
        self.spent = {name: [0.0, 0.0] for name in PARTS}
        self.within: list[list[float]] = []

    def watch(self, name: str, where: str) -> None:
        """Put a clock around a function."""
        module, _, path = where.partition(":")
        *owners, last = path.split(".")
        owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
        function = getattr(owner, last)

        @functools.wraps(function)
        def timed(*given: Any, **named: Any) -> Any:
            begin = time.perf_counter(), time.process_time()
            self.within.append([0.0, 0.0])
            try:
                return function(*given, **named)
            finally:
                taken = time.perf_counter() - begin[0], time.process_time() - begin[1]
                inner = self.within.pop()
                for kind in (0, 1):
                    self.spent[name][kind] += taken[kind] - inner[kind]
                    if self.within:
                        self.within[-1][kind] += taken[kind]

        setattr(owner, last, timed)


def run(overrides: list[str], folder: Path) -> dict[str, Any]:
    """Run the command in a process of its own.

    Returns:
        "seconds" and "cores" (seconds of all cores together), "megabytes" at most, and "parts": name -> both seconds.
    """
    result = folder / "shares.json"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    megabytes, seconds = peak([sys.executable, __file__, str(result), *overrides])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    parts = json.loads(result.read_text())
    rest = [total - sum(part[kind] for part in parts.values()) for kind, total in enumerate((seconds, cores))]
    return {"seconds": seconds, "cores": cores, "megabytes": megabytes, "parts": {**parts, "all else": rest}}


def rows_of(found: dict[str, Any]) -> list[list[Any]]:
    """A row for each part that took any time, and one for the whole."""
    total = found["cores"]
    parts = {name: both for name, both in found["parts"].items() if both[1] > 0.01}
    rows: list[list[Any]] = [[name, *both, f"{both[1] / total:.1%}"] for name, both in parts.items()]
    return [*rows, ["the whole command", found["seconds"], total, "100%"]]


def main() -> int:
    """Run the command line with clocks."""
    result, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    clock = Clock()
    for name, where in PARTS.items():
        clock.watch(name, where)
    from cpc_lightning.__main__ import main as command

    try:
        return command()
    finally:
        Path(result).write_text(json.dumps(clock.spent))


if __name__ == "__main__":
    sys.exit(main())
