"""Entry point of one process of a distributed run: `python -m cpc_lightning.app.worker FOLDER`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from pathlib import Path

from omegaconf import OmegaConf

from cpc_lightning.app.endings import ending_of, quieten
from cpc_lightning.app.launch import process_number
from cpc_lightning.app.predict import predictions
from cpc_lightning.app.pretrain import MODE, pretrain
from cpc_lightning.app.run import run
from cpc_lightning.app.stopping import stop_on_signals
from cpc_lightning.files import atomic_write


def end_with_starter() -> None:
    """End this process when the one that started it is gone, however that ended: then its end of the pipe closes."""
    os.read(0, 1)  # not through sys.stdin, whose lock would be held when Python ends
    os._exit(1)


def main() -> int:
    """Run what FOLDER describes; how it ends goes to a file there, because the supervisor says one line for all."""
    folder = Path(sys.argv[1])
    threading.Thread(target=end_with_starter, daemon=True).start()
    quieten()
    described = OmegaConf.to_container(OmegaConf.load(folder / "run.yaml"))
    assert isinstance(described, dict)
    settings = described.get("settings", {})
    try:
        with stop_on_signals():
            if "arguments" in described:
                predictions(described["arguments"], child=True)
            else:
                (pretrain if settings["mode"] == MODE else run)(settings, described["overrides"])
        return 0
    except BaseException as error:
        ending = ending_of(error, settings.get("run_dir", ""))
        if ending is None:
            raise
    with atomic_write(folder / f"ending_{process_number()}.json") as file:
        file.write(json.dumps(dataclasses.asdict(ending)).encode())
    return ending.code


if __name__ == "__main__":
    sys.exit(main())
