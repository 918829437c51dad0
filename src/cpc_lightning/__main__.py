"""`python -m cpc_lightning`."""

import sys

from cpc_lightning.command_line import main

if __name__ == "__main__":
    sys.exit(main())
