"""The upstreams in force: made from the configuration, made anew when the machine's resolvers change, probed for loops.

Guarantees: each change makes a new Upstream, so nothing learned about old servers outlives them; each is probed if
there is a front to which a question could come back. Does not know the resolver, nor when to look.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from p2pdns import config
from p2pdns.addresses import Address, read_address, write_address
from p2pdns.clock import boot_now
from p2pdns.dns.registry import DNS_PORT
from p2pdns.log import get_logger
from p2pdns.net.upstream.asking import Upstream
from p2pdns.net.upstream.system import FILES, SystemServers

# A loop that begins while we run shows as silence; a probe a minute costs little beside the questions that then fail.
PROBE_AGAIN_S = 60.0

log = get_logger("upstream")


class Upstreams:
    """The servers for ordinary names. `own` are the front's addresses; `directory` is for copies of the servers."""

    def __init__(
        self,
        settings: config.UpstreamTable,
        own: Sequence[Address],
        directory: Path | None = None,
        files: Sequence[Path] = FILES,
    ) -> None:
        self._own = tuple(own)
        self._system = SystemServers(own, directory, files)
        self._silent_count = 0
        self._probed_at = 0.0
        self.current = self.use(settings)

    def use(self, settings: config.UpstreamTable) -> Upstream:
        """Return a new Upstream for these settings, in force from now on."""
        self._settings = settings
        self._system.look()
        return self._renew()

    def look(self) -> Upstream | None:
        """Return a new Upstream if the configuration means the machine's resolvers and these have changed."""
        system = self._system
        if self._settings.servers != "system":
            return None
        is_changed = system.look()
        if not is_changed and not self.current.servers and self.current.counters["servers-dropped"]:
            # Probes have shown that the servers in the files lead to this resolver, though by another address.
            is_changed = system.fall_back()
        if is_changed:
            listed = ",".join(map(write_address, system.servers)) or "none"
            log.info("the resolvers of this machine have changed", servers=listed)
            return self._renew()
        if self.current.counters["replies"]:
            system.remember(self.current.servers)
        return None

    @property
    def problem(self) -> str | None:
        return self._system.problem if self._settings.servers == "system" else None

    def is_probe_due(self, now: float) -> bool:
        """Return whether a server was silent since this last returned True, which was a minute ago or longer."""
        silent_count = self.current.counters["no-reply"]
        if silent_count == self._silent_count or now < self._probed_at + PROBE_AGAIN_S:
            return False
        self._silent_count, self._probed_at = silent_count, now
        return True

    async def probe(self) -> None:
        """Look for loops; without a front, no question of ours can come back to us."""
        if self._own:
            await self.current.probe(lambda: secrets.token_hex(8))

    def _renew(self) -> Upstream:
        servers, addresses = self._settings.servers, self._system.servers
        if servers != "system":
            addresses = () if servers == "none" else tuple(read_address(text, DNS_PORT) for text in servers)
        if self.problem is not None:
            log.warning(self.problem)
        self._silent_count = 0
        self.current = Upstream(addresses, clock=boot_now, trust_ad=self._settings.trust_ad)
        return self.current
