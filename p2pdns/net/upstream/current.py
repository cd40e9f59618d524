"""The upstreams in force: made of the configuration, made anew when the machine's resolvers change, probed for loops.

Guarantees: each change makes a new Upstream, so that nothing learned of old servers outlives them; each is probed when
there is a front that a question could come back to. Does not know the resolver, nor when to look.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from p2pdns import config
from p2pdns.addresses import Address, write_address
from p2pdns.clock import boot_now
from p2pdns.log import get_logger
from p2pdns.net.upstream.asking import Upstream
from p2pdns.net.upstream.servers import servers_of
from p2pdns.net.upstream.system import FILES, SystemServers

# A loop that begins while we run shows by silence; once a minute is little beside the questions that wait in vain.
PROBE_AGAIN_S = 60.0

log = get_logger("upstream")


class Upstreams:
    """The servers asked for ordinary names. `own` is where the front listens, `directory` where copies are kept."""

    def __init__(
        self,
        settings: config.UpstreamTable,
        own: Sequence[Address],
        directory: Path | None = None,
        files: Sequence[Path] = FILES,
    ) -> None:
        self._own = tuple(own)
        self._directory = directory
        self._files = files
        self._system: SystemServers | None = None
        self._silent_count = 0
        self._probed_at = 0.0
        self.current = self.use(settings)

    def use(self, settings: config.UpstreamTable) -> Upstream:
        """Return a new Upstream, in force from now on, for what the configuration says."""
        self._settings = settings
        if settings.servers != "system":
            self._system = None
        elif self._system is None:
            self._system = SystemServers(self._own, self._directory, self._files)
        else:
            self._system.look()
        self.current = self._made()
        return self.current

    def look(self) -> Upstream | None:
        """Return a new Upstream when the machine's resolvers have changed, where the configuration means those."""
        system = self._system
        if system is None:
            return None
        is_changed = system.look()
        if not is_changed and not self.current.servers and self.current.counters["servers-dropped"]:
            # What the files name was found to be ourselves, by a longer way than an address shows.
            is_changed = system.fall_back()
        if is_changed:
            listed = ",".join(map(write_address, system.servers)) or "none"
            log.info("the resolvers of this machine have changed", servers=listed)
            self.current = self._made()
            return self.current
        if self.current.counters["replies"]:
            system.remember(self.current.servers)
        return None

    @property
    def problem(self) -> str | None:
        """What is wrong with the resolvers of this machine, in words."""
        return None if self._system is None else self._system.problem

    def is_probe_due(self, now: float) -> bool:
        """Return whether a server was silent since the last time this returned so, a minute ago or longer."""
        silent_count = self.current.counters["no-reply"]
        if silent_count == self._silent_count or now < self._probed_at + PROBE_AGAIN_S:
            return False
        self._silent_count, self._probed_at = silent_count, now
        return True

    async def probe(self) -> None:
        """Look for loops; without a front of ours no question of ours can come back to us."""
        if self._own:
            await self.current.probe(lambda: secrets.token_hex(8))

    def _made(self) -> Upstream:
        settings, system = self._settings, self._system
        servers = servers_of(settings.servers) if system is None else system.servers
        if self.problem is not None:
            log.warning(self.problem)
        self._silent_count = 0
        return Upstream(servers, clock=boot_now, trust_ad=settings.trust_ad)
