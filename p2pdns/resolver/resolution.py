"""The machine that leads one question to an answer: its next step, the content of the answer, and its cost.

Guarantees: it ends within its budget; it gives no negative answer and crosses no delegation on an item that is not
settled; it denies a name only where a verified zone or one of our own does, never because a look-up found nothing; it
forwards no name that is ours. Does not know how items are found, the cache, or the client.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from p2pdns.dns.life import FAILURE_S_BRIEF, FAILURE_S_MIN
from p2pdns.dns.message import RR, Question, RRset
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Class, Ede, Rcode, Type
from p2pdns.dns.zone.answer import CHAIN_LINKS_MAX, TOO_MANY_LINKS, Kind, ZoneAnswer
from p2pdns.errors import FormatError
from p2pdns.items.keys import ZoneId
from p2pdns.items.shards.partial import Needed
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX, QUESTION_S_MAX
from p2pdns.resolver.draft import Draft, owner_at_end
from p2pdns.resolver.foreign import OWNERS_MAX, REFUSED_TYPES, Foreign, cleaned
from p2pdns.resolver.missing import BRIEF, LOOKED_FOR, MISSING, said_of_pinned
from p2pdns.resolver.names import (
    Elsewhere,
    Here,
    InZone,
    ResolverSettings,
    tag_of_petname,
    tag_of_setting,
    tag_of_zone,
    zone_of_name,
)
from p2pdns.resolver.steps import (
    Answered,
    Fetch,
    FetchPinned,
    Forward,
    Found,
    Missing,
    NoReply,
    NotFound,
    Outcome,
    Replied,
    Step,
    UpstreamOutcome,
    ZoneOutcome,
)
from p2pdns.resolver.weakness import denied_by, unfit_for_provisional

STEPS_MAX = 8  # Fetches and forwards of one question; honest chains have two or three.
# Zones of one question, in hand or not. Without this bound each repetition of a long chain would get further by one.
ZONES_MAX = QUESTION_LOOKUPS_MAX
# Fetches of pinned items. Those that cost a look-up are few anyway; of the others, a chain of 16 aliases through shards
# that other questions are just fetching takes this many.
PINNED_STEPS_MAX = 24

_DENYING = frozenset([int(Rcode.NXDOMAIN), int(Rcode.YXDOMAIN)])
_ANSWERING = frozenset([int(Rcode.NOERROR), int(Rcode.NXDOMAIN), int(Rcode.YXDOMAIN)])


@dataclass(frozen=True, slots=True)
class _Delegation:
    """A delegation on the way: its owner, the labels of the question below it, and the zones that may take over."""

    owner: Name
    ttl: int
    found: Found
    labels: tuple[bytes, ...]
    candidates: tuple[Name, ...]


class Resolution:
    """A question machine: `next_step` returns a step, `step_done` takes its outcome; `Answered` is the last step."""

    def __init__(
        self, question: Question, *, settings: ResolverSettings, now: float, deadline: float, is_traced: bool = True
    ) -> None:
        # The front has folded the names of its questions already.
        folded = question.name.folded()
        self.question = question if folded is question.name else Question(folded, question.rtype, question.rclass)
        self.deadline = min(deadline, now + QUESTION_S_MAX)
        self._settings = settings
        self._draft = Draft(self.question, settings, is_traced=is_traced)
        self._step: Step | None = None
        self._name = self._zone_name = self.question.name
        self._visited: list[Name] = []
        self._charges: dict[int, int] = {}
        self._delegation: _Delegation | None = None
        # Behind a delegation only a complete look-up counts: the first reply must not decide which zone has a name.
        self._is_behind_cut = False
        self._step_count = 0
        # The second pass through a chain takes settled items only; known ones cost no further step.
        self._settled_only = False
        self._known: dict[ZoneId, Found] = {}
        self._pinned_count = 0
        # Look-ups for manifests, which count as one with those for their shards.
        self._uncounted: dict[int, None] = {}
        # The zones whose heads were looked up once more, and what could not be found before.
        self._lacked: dict[ZoneId, tuple[Needed, NotFound]] = {}

    @property
    def trace(self) -> tuple[str, ...]:
        return tuple(self._draft.trace)

    @property
    def rpc_count(self) -> int:
        """How many RPCs the look-ups that this question waited for have sent; each such question is charged in full."""
        return sum(self._charges.values())

    @property
    def rpcs_left(self) -> int:
        return max(0, QUESTION_RPCS_MAX - self.rpc_count)

    @property
    def cold_gets_left(self) -> int:
        return max(0, QUESTION_LOOKUPS_MAX - len(self._charges) + len(self._uncounted))

    def next_step(self, now: float) -> Step:
        """Return the current step."""
        if self._step is None:
            self._draft.note("asked for {}", self.question)
            self._step = self._first(now)
        return self._step

    def step_done(self, outcome: Outcome, now: float) -> Step:
        """Take the outcome of the step last returned, and return the next one."""
        step = self._step
        if isinstance(step, Fetch | FetchPinned):
            assert isinstance(outcome, Found | NotFound), "a fetch ends with an item or without one"
            self._step = self._fetched(step, outcome, now)
        else:
            assert isinstance(step, Forward), "an answered resolution takes no more"
            assert isinstance(outcome, Replied | NoReply), "a forward ends with a reply or without one"
            self._step = self._forwarded(outcome, now)
        return self._step

    # The way from name to name.

    def _first(self, now: float) -> Step:
        if self.question.rclass != Class.IN or self.question.rtype in REFUSED_TYPES:
            self._draft.ede.append((Ede.OTHER, "only questions for data of class IN are answered"))
            return self._finish(Rcode.REFUSED, now)
        return self._follow(self.question.name, now)

    def _follow(self, name: Name, now: float) -> Step:
        """Return the step that goes on with a name."""
        place = self._settings.place_asked(name, self.question.rtype)
        if isinstance(place, InZone):
            # A bare name inside a chain keeps the current view; a name below a suffix changes the view to its own.
            if place.view.suffix is not None:
                self._draft.view = place.view
                self._draft.depend_on(tag_of_setting("suffixes"))
            if place.view.petname is not None:
                self._draft.depend_on(tag_of_petname(place.view.petname))
                self._draft.note(f"the petname {place.view.petname.decode()} stands for {place.zone_id}")
            # `www.<key>` and `www.<key>.p2p.alt` are one name in the zone; a loop through both forms is a loop.
            return self._enter_zone(place.zone_id, place.name, now)
        if name in self._visited:
            return self._looped(name, now)
        self._visited.append(name)
        self._name = name
        if isinstance(place, Here):
            return self._answer_here(place, now)
        if (failed := self._over_budget(now)) is not None:
            return failed
        self._draft.depend_on(tag_of_setting("upstream"))
        self._draft.note("{} is no name of ours: asking an upstream", name)
        return Forward(self._question_at(name))

    def _enter_zone(self, zone_id: ZoneId, name: Name, now: float) -> Step:
        if name in self._visited:
            return self._looped(name, now)
        self._visited.append(name)
        self._name = self._zone_name = name
        self._draft.depend_on(tag_of_zone(zone_id), tag_of_setting("trusted"))
        self._draft.depend_on_zone(zone_id)
        if self._draft.zone_count > ZONES_MAX:
            return self._fail(f"more than {ZONES_MAX} zones have a say in the answer", now)
        return self._fetch(zone_id, now, settled=False)

    def _question_at(self, name: Name) -> Question:
        """Return the question with another name, one on the way."""
        question = self.question
        return question if name is question.name else Question(name, question.rtype, question.rclass)

    def _is_of_others(self, name: Name) -> bool:
        """Return whether a name may be forwarded, and upstreams may answer for it."""
        return isinstance(self._settings.place_asked(name, self.question.rtype), Elsewhere)

    def _looped(self, name: Name, now: float) -> Step:
        if self._draft.is_provisional and not self._settled_only:
            return self._settle_first("a loop", now)
        return self._fail(f"the aliases of {name} lead back to it", now)

    def _fetch(self, zone_id: ZoneId, now: float, *, settled: bool) -> Step:
        step = Fetch(zone_id, settled or self._settled_only or self._is_behind_cut)
        # A known item is used once, so that a chain through the same few zones again and again runs out of steps.
        known = self._known.pop(zone_id, None) if self._settled_only else None
        if known is not None:
            return self._found(step, known, now)
        failed = self._over_budget(now)
        return step if failed is None else failed

    def _over_budget(self, now: float) -> Step | None:
        if self._step_count >= STEPS_MAX:
            return self._fail(f"more than {STEPS_MAX} steps were needed", now)
        if now >= self.deadline:
            return self._fail("the time of the question is over", now, seconds=FAILURE_S_BRIEF)
        self._step_count += 1
        return None

    # What a zone says.

    def _fetched(self, step: Fetch | FetchPinned, outcome: ZoneOutcome, now: float) -> Step:
        for number, rpc_count in (*outcome.earlier, (outcome.lookup, outcome.rpc_count)):
            if number:
                self._charges[number] = max(rpc_count, self._charges.get(number, 0))
        if isinstance(step, FetchPinned) and step.is_of_manifest and outcome.pinned_lookup:
            self._uncounted[outcome.pinned_lookup] = None
        before = step.zone_id
        for following in outcome.followed:
            self._draft.depend_on(tag_of_zone(following))
            self._draft.note("{} is succeeded by {}", before, following)
            before = following
        if isinstance(outcome, NotFound):
            if isinstance(step, FetchPinned):
                return self._lacking(step, outcome, now)
            return self._missing(step.zone_id, outcome, now)
        if outcome.settled:
            self._known[step.zone_id] = outcome
        return self._found(step, outcome, now)

    def _found(self, step: Fetch | FetchPinned, outcome: Found, now: float) -> Step:
        self._draft.note("item of {}: {}", step.zone_id, outcome.description(now))
        self._draft.caution(outcome.notes)
        question = Question(self._zone_name, self.question.rtype, self.question.rclass)
        said = outcome.zone.answer(question, CHAIN_LINKS_MAX - self._draft.link_count)
        if isinstance(said, Needed):
            return self._needing(step, outcome, said, now)
        if outcome.unconfirmed or self._draft.is_unconfirmed:
            denied = denied_by(outcome, said, question)
            if denied:
                return self._fail(_unconfirmed_for(denied), now)
        if outcome.settled and not self._draft.is_provisional:
            return self._said(outcome, said, now)
        why = unfit_for_provisional(outcome, said, question)
        if not why:
            return self._said(outcome, said, now)
        if outcome.settled:
            return self._settle_first(why, now)
        if step.settled:
            return self._fail(_too_little_for(why), now, seconds=FAILURE_S_BRIEF)
        self._draft.note(f"that is not enough for {why}: waiting for the complete look-up")
        return self._fetch(step.zone_id, now, settled=True)

    def _needing(self, step: Fetch | FetchPinned, outcome: Found, needed: Needed, now: float) -> Step:
        """Return the step that fetches what a divided zone needs for its answer."""
        self._draft.note("the zone is divided: {} is needed", needed)
        lacked, outcome_before = self._lacked.get(step.zone_id, (None, None))
        if outcome_before is not None and lacked == needed:
            return self._fail_for_want_of(needed, outcome_before, now)
        if now >= self.deadline:
            return self._fail("the time of the question is over", now, seconds=FAILURE_S_BRIEF)
        self._pinned_count += 1
        if self._pinned_count > PINNED_STEPS_MAX:
            return self._fail(f"more than {PINNED_STEPS_MAX} steps through shards were needed", now)
        pinned_by = outcome.followed[-1] if outcome.followed else step.zone_id
        return FetchPinned(step.zone_id, pinned_by, needed, step.settled)

    def _lacking(self, step: FetchPinned, outcome: NotFound, now: float) -> Step:
        """Return the step that follows where pinned items are missing: a newer head may pin others.

        That is looked for once, and not for an item whose failure is remembered.
        """
        zone_id, needed = step.zone_id, step.needed
        if outcome.reason in LOOKED_FOR and outcome.earlier and zone_id not in self._lacked:
            self._lacked[zone_id] = needed, outcome
            self._draft.note(f"{needed} cannot be found: looking for a newer head")
            failed = self._over_budget(now)
            return Fetch(zone_id, settled=True, looks_again=True) if failed is None else failed
        return self._fail_for_want_of(needed, outcome, now)

    def _fail_for_want_of(self, needed: Needed, outcome: NotFound, now: float) -> Step:
        code, text = said_of_pinned(needed, outcome.reason)
        seconds = max(FAILURE_S_BRIEF if outcome.reason in BRIEF else FAILURE_S_MIN, outcome.retry_at - now)
        return self._fail(text, now, code=code, seconds=seconds)

    def _missing(self, zone_id: ZoneId, outcome: NotFound, now: float) -> Step:
        code, text = MISSING[outcome.reason]
        if self._delegation is not None and len(self._delegation.candidates) > 1:
            self._draft.note(f"{zone_id}: {text}")
            self._delegation = replace(self._delegation, candidates=self._delegation.candidates[1:])
            return self._try_candidate(now)
        # Only a lack of time may be over soon; a chain that cost too much would cost as much again.
        is_brief = outcome.reason is Missing.DEADLINE
        seconds = max(FAILURE_S_BRIEF if is_brief else FAILURE_S_MIN, outcome.retry_at - now)
        return self._fail(text, now, code=code, seconds=seconds)

    def _said(self, found: Found, said: ZoneAnswer, now: float) -> Step:
        """Return the step that follows from a zone's answer that may be relied upon."""
        if not self._tell_delegation(now):
            return self._fail("the name below a delegation is too long to be told", now)
        self._draft.rely_on(found)
        if said.kind is Kind.DELEGATED_AWAY or said.rcode == Rcode.SERVFAIL:
            return self._fail(said.reason, now)
        if said.kind not in (Kind.ALIAS, Kind.DELEGATED):
            return self._conclude(found, said, now)
        # The alias at a delegation is added once it is known which of several zones takes over.
        chain = said.answer if said.kind is Kind.ALIAS else said.answer[:-1]
        if not self._draft.add_rrsets(self._draft.answer, chain, found, now):
            return self._fail("a name of the chain is too long to be told", now)
        if said.kind is Kind.DELEGATED:
            return self._delegated(found, said, now)
        assert said.target is not None, "an alias has a target"
        self._draft.note(f"an alias leads to {said.target}")
        return self._follow(said.target, now)

    def _conclude(self, found: Found, said: ZoneAnswer, now: float) -> Step:
        draft = self._draft
        before = len(draft.answer)
        draft.add_rrsets(draft.answer, said.answer, found, now)
        if said.answer and len(draft.answer) == before:
            return self._fail("every record of the answer has a name that is too long to be told", now)
        draft.add_rrsets(draft.authority, said.authority, found, now)
        draft.add_rrsets(draft.additional, said.additional, found, now)
        draft.note(f"the zone says {said.kind.value}")
        soa: list[RR] = []
        draft.add_rrsets(soa, (found.zone.negative_soa,), found, now)
        return self._finish(said.rcode, now, soa=soa[0] if soa else None)

    # Delegations to keys.

    def _delegated(self, found: Found, said: ZoneAnswer, now: float) -> Step:
        candidates = tuple(name for name in said.delegates if zone_of_name(name) is not None)
        if not candidates:
            return self._fail("delegated to labels that are no zone keys", now)
        assert said.target is not None, "a delegation has a target"
        alias = said.answer[-1]
        labels = said.target.relative_to(said.delegates[0])
        self._delegation = _Delegation(alias.owner, alias.ttl, found, labels, candidates)
        self._is_behind_cut = True
        return self._try_candidate(now)

    def _try_candidate(self, now: float) -> Step:
        """Return the step to the zone of the first remaining candidate."""
        assert self._delegation is not None, "there is a cut"
        apex = self._delegation.candidates[0]
        zone_id = zone_of_name(apex)
        assert zone_id is not None, "candidates end in zone keys"
        try:
            target = Name.of(*self._delegation.labels).under(apex)
        except FormatError:
            return self._fail("the name below a delegation is too long", now)
        self._draft.note(f"delegated to {zone_id}: going on with {target}")
        # Followed like an alias, because this machine's configuration counts behind a delegation too.
        return self._follow(target, now)

    def _tell_delegation(self, now: float) -> bool:
        """Add the alias across the delegation to the zone that was found; return whether its names are not too long."""
        delegation, self._delegation = self._delegation, None
        if delegation is None:
            return True
        alias = RRset(delegation.owner, Type.CNAME, delegation.ttl, (self._zone_name.wire(),))
        return self._draft.add_rrsets(self._draft.answer, (alias,), delegation.found, now)

    # What an upstream says.

    def _forwarded(self, outcome: UpstreamOutcome, now: float) -> Step:
        if isinstance(outcome, NoReply):
            return self._no_reply(outcome, now)
        draft, reply = self._draft, outcome.message
        draft.earns_ad = draft.earns_ad and outcome.ad
        draft.ede += outcome.ede
        rcode = reply.rcode
        if rcode not in _ANSWERING:
            return self._fail(f"the upstream replied with rcode {rcode}", now, code=Ede.OTHER)
        said = cleaned(reply, self._question_at(self._name), self._is_of_others, CHAIN_LINKS_MAX - draft.link_count)
        self._tell_left_out(said)
        if said.link_count > CHAIN_LINKS_MAX - draft.link_count:
            return self._fail(TOO_MANY_LINKS, now)
        if said.loops:
            return self._looped(said.target, now)
        draft.add_foreign(draft.answer, said.answer)
        if said.leads_on or (said.target != self._name and not self._is_of_others(said.target)):
            # The upstream cannot answer for an alias's target that is ours; and if it left the target out, it may
            # answer a question for it.
            draft.note(f"an alias of the upstream leads to {said.target}")
            return self._follow(said.target, now)
        draft.add_foreign(draft.authority, said.authority)
        draft.add_foreign(draft.additional, said.additional)
        draft.note("the upstream replied with {} records", len(said.answer))
        return self._finish(said.rcode, now)

    def _tell_left_out(self, said: Foreign) -> None:
        if said.dropped_count:
            self._draft.note(f"dropped {said.dropped_count} records in which the upstream spoke for names of ours")
        if said.owner_count > OWNERS_MAX:
            text = f"the upstream spoke of {said.owner_count} names: what it said of all but {OWNERS_MAX} is left out"
            self._draft.note(text)
            self._draft.ede.append((Ede.OTHER, text))
            self._draft.earns_ad = False

    def _no_reply(self, outcome: NoReply, now: float) -> Step:
        if outcome.is_refusal and len(self._visited) > 1:
            # The question's name is ours, so it is not refused: its answer is only out of reach.
            return self._fail(outcome.text, now, code=Ede.NOT_AUTHORITATIVE)
        if outcome.is_refusal:
            self._draft.note(outcome.text)
            self._draft.ede.append((Ede.NOT_AUTHORITATIVE, outcome.text))
            # An empty answer has no unverified record, but no verified one either.
            self._draft.earns_ad = False
            return self._finish(Rcode.REFUSED, now)
        if outcome.is_silence:
            # A silent upstream may answer again long before this failure is forgotten.
            self._draft.depend_on(tag_of_setting("silence"))
        if outcome.is_remembered:
            self._draft.ede.append((Ede.CACHED_ERROR, ""))
        seconds = max(FAILURE_S_BRIEF, outcome.retry_at - now)
        return self._fail(outcome.text, now, code=Ede.NETWORK_ERROR, seconds=seconds)

    # The ends.

    def _settle_first(self, why: str, now: float) -> Step:
        """Return the step that begins again on settled items only: the aliases so far may be out of date."""
        if self._settled_only:
            return self._fail(_too_little_for(why), now, seconds=FAILURE_S_BRIEF)
        trace = self._draft.trace
        self._draft = Draft(self.question, self._settings, is_traced=self._draft.is_traced)
        self._draft.trace = trace
        self._draft.note(f"provisional aliases lead to {why}: beginning again with complete look-ups")
        self._settled_only = True
        self._visited.clear()
        self._delegation = None
        return self._follow(self.question.name, now)

    def _answer_here(self, place: Here, now: float) -> Step:
        draft = self._draft
        draft.earns_ad = False
        draft.depend_on(*place.tags)
        self._zone_name = self._name
        if not self._tell_delegation(now):
            return self._fail("the name below a delegation is too long to be told", now)
        said = place.zone.answer(Question(self._name, self.question.rtype, Class.IN))
        draft.answer += said
        target = owner_at_end(self._name, said) if self.question.rtype != Type.CNAME else self._name
        if target != self._name:
            draft.note(f"an alias of the configuration leads to {target}")
            return self._follow(target, now)
        draft.authority += () if said else (place.zone.soa(),)
        if place.text:
            draft.ede.append((place.ede, place.text))
        draft.note(place.text or f"{self._name} is answered here")
        return self._finish(place.rcode, now, is_ours=len(self._visited) == 1)

    def _finish(self, rcode: int, now: float, *, is_ours: bool = False, soa: RR | None = None) -> Step:
        if rcode in _DENYING:
            if self._draft.is_unconfirmed:
                return self._fail(_unconfirmed_for("an absence"), now)
            if self._draft.is_provisional:
                return self._settle_first("an absence", now)
        return Answered(self._draft.finished(rcode, now, is_ours=is_ours, soa=soa, rpc_count=self.rpc_count))

    def _fail(
        self, text: str, now: float, *, code: int = Ede.NO_REACHABLE_AUTHORITY, seconds: float = FAILURE_S_MIN
    ) -> Step:
        rpc_count = self.rpc_count
        failed = self._draft.failed(text, now, code=code, rcode=Rcode.SERVFAIL, seconds=seconds, rpc_count=rpc_count)
        return Answered(failed)


def _too_little_for(why: str) -> str:
    return f"a look-up on the way was not complete, which is not enough for {why}"


def _unconfirmed_for(why: str) -> str:
    return f"no contact has confirmed a zone on the way, which is not enough for {why}"
