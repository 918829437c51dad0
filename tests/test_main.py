"""What the command line sets before torch is imported."""

import subprocess
import sys

import pytest

# The real entry point, with a command line that says what it finds and whether torch was there already.
ASK = """
import os, sys, types
command_line = types.ModuleType("cpc_lightning.app.command_line")
command_line.main = lambda: print(
    "torch" in sys.modules, os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT")
)
sys.modules["cpc_lightning.app"] = types.ModuleType("cpc_lightning.app")
sys.modules["cpc_lightning.app.command_line"] = command_line
from cpc_lightning.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "False None 1000"),
        ({"OMP_WAIT_POLICY": "active"}, "False active None"),
        ({"GOMP_SPINCOUNT": "7"}, "False None 7"),
    ],
)
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(given, found):
    answer = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=given)
    assert answer.stdout.strip() == found, answer.stderr
