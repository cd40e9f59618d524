"""`python -m p2pdns`: the same as the command `p2pdns`."""

from __future__ import annotations

import sys

from p2pdns.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
