"""One record more in a published zone of many names, as its owner adds it: by another publication of the zone file.

Guarantees: when this returns, more than half of the other nodes hold each item that has changed. Does not know how many
those are.
"""

from __future__ import annotations

from p2pdns.admin.publishing import publish_through
from p2pdns.cli.zones import read_zone
from p2pdns.demo.swarm import Swarm, SwarmNode
from p2pdns.errors import Unavailable
from p2pdns.items.item import VALUE_BYTES_WRITE_DEFAULT
from p2pdns.items.keys import SecretKey

LINE = 'd7 60 TXT "moved to the second floor"\n'


def add_record(swarm: Swarm, publisher: SwarmNode, secret: SecretKey, zone_path: str) -> None:
    """Publish the zone file again, with one line more."""
    with open(zone_path, encoding="utf-8") as file:
        text = file.read() + LINE
    edited = swarm.folder / "edited.zone"
    edited.write_text(text)
    zone = read_zone(str(edited), secret.zone_key, origin=None, size_bytes_max=VALUE_BYTES_WRITE_DEFAULT, keys=dict)
    stored = publish_through(publisher.control, secret, zone.value)
    if not stored.is_done:
        raise Unavailable(f"only {stored}", place=zone_path, hint=publisher.last_words())
