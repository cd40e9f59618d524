"""Zone files: text to RRsets and back, and RDATA as text.

`reader` reads records and directives from the `lines` of a text, with `svcb` and `generate` for what dnspython reads
differently; `explain` has the words for mistakes, `judging` says what clashes and what is left out, `warning` what is
odd; `placeholders` puts keys into a text, `writing` is the way back.

Guarantees: `read` returns RRsets that `Zone.of` keeps whole, or raises a ZoneFileError that has all mistakes of the
file, each with its line and what to do; what is left out because no reader would see it is in the warnings of
`reading`. `write` gives text that `read` turns into the same zone. `filled` puts zone keys where names can stand and
nowhere else, and every line stays where it was. `rdata_text` ends in printable ASCII for any bytes.
Does not know: where the text came from, keys, how much fits in an item.
"""

from __future__ import annotations

from p2pdns.dns.zonefile.entries import Remark
from p2pdns.dns.zonefile.placeholders import FilledText, fill, filled, placeholders
from p2pdns.dns.zonefile.reader import DEFAULT_TTL, RECORDS_MAX, WARNINGS_MAX, Reading, read, reading
from p2pdns.dns.zonefile.writing import rdata_text, write

__all__ = [
    "DEFAULT_TTL",
    "RECORDS_MAX",
    "WARNINGS_MAX",
    "FilledText",
    "Reading",
    "Remark",
    "fill",
    "filled",
    "placeholders",
    "rdata_text",
    "read",
    "reading",
    "write",
]
