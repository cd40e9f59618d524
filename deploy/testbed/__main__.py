"""The command: `python -m deploy.testbed`."""

import sys

from deploy.testbed.cli import main

if __name__ == "__main__":
    sys.exit(main())
