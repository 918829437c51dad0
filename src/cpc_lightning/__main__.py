"""`python -m cpc_lightning`."""

import sys


def main() -> int:
    """Run the command line. Ctrl-C is answered from the first moment, while torch is still being imported."""
    try:
        from cpc_lightning.command_line import main as run

        return run()
    except KeyboardInterrupt:
        print("stopped by SIGINT before the run began", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
