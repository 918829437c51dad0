"""`python -m cpc_lightning`."""

import os
import signal
import sys


def main() -> int:
    """Run the command line. Ctrl-C is answered from the first moment, while torch is still being imported."""
    try:
        from cpc_lightning.command_line import main as run

        return run()
    except KeyboardInterrupt:
        print("stopped by SIGINT before the run began", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # what reads the output, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails to flush at the end
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
