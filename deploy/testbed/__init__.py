"""The testbed of containers as a tool: `python -m deploy.testbed VERB`, or `Testbed` in a program.

An overlay of twelve nodes on two networks, joined by a router (deploy/docker-compose.yml), which is brought up, looked
at, broken and healed. `docs/testbed.md` has every verb with its output.
"""

from deploy.testbed.faults import Faults
from deploy.testbed.impair import Impairment
from deploy.testbed.places import Container, Places
from deploy.testbed.testbed import Testbed

__all__ = ["Container", "Faults", "Impairment", "Places", "Testbed"]
