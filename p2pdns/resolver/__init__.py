"""From a question to an answer, step by step, without waiting for anything.

`names` says whose a name is and how it is shown to the one who asked, `local` answers what belongs to no zone,
`steps` holds the words between a resolution and its driver, `foreign` cleans what an upstream says, `rebinding`
withholds addresses, `resolution` is the machine. Guarantees: no clock, no socket, no task; what it needs it asks its
driver for, within a fixed budget. Does not know how items are found, what an upstream is, or who asked.
"""

from p2pdns.resolver.names import ResolverSettings, View, tag_of_petname, tag_of_setting, tag_of_zone
from p2pdns.resolver.resolution import Resolution
from p2pdns.resolver.steps import (
    Answered,
    Budget,
    Fetch,
    Forward,
    Found,
    Missing,
    NoReply,
    NotFound,
    Outcome,
    Replied,
    Resolved,
    Step,
    UpstreamOutcome,
    ZoneOutcome,
)

__all__ = [
    "Answered",
    "Budget",
    "Fetch",
    "Forward",
    "Found",
    "Missing",
    "NoReply",
    "NotFound",
    "Outcome",
    "Replied",
    "Resolution",
    "Resolved",
    "ResolverSettings",
    "Step",
    "UpstreamOutcome",
    "View",
    "ZoneOutcome",
    "tag_of_petname",
    "tag_of_setting",
    "tag_of_zone",
]
