"""What the command line sets before torch is imported, and the streams that it is given."""

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


# The real entry point, with a command line that opens a file and starts a process, both of which print.
OPEN = """
import subprocess, sys, types
def run():
    with open(sys.argv[1], "w") as file:
        file.write("kept")
        file.flush()
        print("said", flush=True), print("said", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-c", "import os; os.write(1, b'child'), os.write(2, b'child')"])
    return 7
command_line = types.ModuleType("cpc_lightning.app.command_line")
command_line.main = run
sys.modules["cpc_lightning.app"] = types.ModuleType("cpc_lightning.app")
sys.modules["cpc_lightning.app.command_line"] = command_line
from cpc_lightning.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_what_is_printed_to_a_closed_stream_goes_into_no_file(closed, tmp_path):
    command = f'exec "$0" -c "$1" "$2" {closed}'
    answer = subprocess.run(["sh", "-c", command, sys.executable, OPEN, tmp_path / "file"], capture_output=True)
    assert answer.returncode == 7, answer.stderr
    assert (tmp_path / "file").read_bytes() == b"kept"
    assert answer.stdout == (b"" if ">&-" in closed.split() else b"said\nchild")
    assert answer.stderr == (b"" if "2>&-" in closed.split() else b"said\nchild")
