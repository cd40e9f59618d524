"""`python -m p2pdns`: the same as the command `p2pdns`, which begins here too."""

from __future__ import annotations

import signal
import sys

# Most of the time of a short command goes into loading modules. Ctrl-C during that ends it as it ends a program in
# C, without a word; `main` takes over. Who started us with the signal ignored (nohup) has a reason.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from p2pdns.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
