"""Resolution: what is asked, what may be said, and what it may cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdns import values
from p2pdns.dns.message import RR, Message, Question, RRset, records_of
from p2pdns.dns.message.rdata import NAME_TYPES, names_in
from p2pdns.dns.message.wire import compose
from p2pdns.dns.name import Name
from p2pdns.dns.registry import Rcode, Type
from p2pdns.dns.zone import Zone
from p2pdns.errors import BadItem, ConfigError
from p2pdns.items.item import MutableItem
from p2pdns.items.packet import zone_of
from p2pdns.limits import QUESTION_LOOKUPS_MAX, QUESTION_RPCS_MAX
from p2pdns.resolver.draft import Draft
from p2pdns.resolver.foreign import OWNERS_MAX
from p2pdns.resolver.names import Elsewhere, ResolverSettings, View, tag_of_petname, tag_of_zone
from p2pdns.resolver.resolution import STEPS_MAX, Resolution
from p2pdns.resolver.steps import (
    Answered,
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
)
from tests.overlay_doubles import KEYS, NOW, SECRETS, A, B, found, item_of, name_of, question, reply_to, rrsets

SETTINGS = ResolverSettings.of(petnames={"alice": str(A)})
WWW = "www 300 A 192.0.2.1"


def begin(text: str, options: ResolverSettings = SETTINGS) -> tuple[Resolution, Step]:
    """Return a resolution and its first step."""
    resolution = Resolution(question(text), settings=options, now=NOW, deadline=NOW + 4)
    return resolution, resolution.next_step(NOW)


def resolved(text: str, *outcomes: Outcome, options: ResolverSettings = SETTINGS) -> Resolved:
    """Return the end of a resolution whose steps have these outcomes, all of them needed."""
    resolution, step = begin(text, options)
    for outcome in outcomes:
        assert not isinstance(step, Answered), f"answered before {outcome}: {resolution.trace}"
        step = resolution.step_done(outcome, NOW)
    assert isinstance(step, Answered), f"{step} is still to be done: {resolution.trace}"
    return step.answer


def text_of(answer: Resolved) -> list[str]:
    """Return the answer section as `owner ttl type`, keys as letters."""
    return [shown(f"{rr.owner} {rr.ttl} {Type(rr.rtype).name}") for rr in answer.answer]


def shown(text: str) -> str:
    """Return a text with the keys as letters."""
    for letter, key in KEYS.items():
        text = text.replace(str(key), f"<{letter}>")
    return text


def target_of(rr: RR) -> str:
    """Return the name in an alias."""
    return shown(str(Name.parse(rr.rdata)[0]))


def texts_of(answer: Resolved) -> str:
    """Return the texts of the extended errors."""
    return " | ".join(f"{code}: {text}" for code, text in answer.ede)


# Whose a name is.


@pytest.mark.parametrize(
    ("text", "zone_name"),
    [
        ("www.{a} A", "www.<a>."),
        ("{a} SOA", "<a>."),
        ("www.{a}p2p.alt. A", "www.<a>."),
        ("www.{a}p2pdns.internal. A", "www.<a>."),
        ("www.alice.p2p.alt. A", "www.<a>."),
        ("WWW.ALICE.P2P.ALT. A", "www.<a>."),
    ],
)
def test_a_name_of_a_zone_is_fetched_by_its_key(text: str, zone_name: str) -> None:
    _, step = begin(text)
    assert step == Fetch(A, settled=False)


def test_a_key_in_capitals_is_the_same_key() -> None:
    _, step = begin(f"www.{str(A).upper()}. A")
    assert step == Fetch(A, settled=False)


@pytest.mark.parametrize("text", ["example.com. A", "foo.internal. A", "key.example. A", f"{'l' * 52}. A", ". NS"])
def test_a_name_of_others_is_forwarded_as_it_is(text: str) -> None:
    _, step = begin(text)
    assert step == Forward(question(text))


@pytest.mark.parametrize(
    ("text", "rcode", "soa_owner"),
    [
        ("alt. A", Rcode.NOERROR, "alt."),
        ("alt. SOA", Rcode.NOERROR, "alt."),
        ("internal. A", Rcode.NOERROR, "internal."),
        ("p2p.alt. A", Rcode.NOERROR, "p2p.alt."),
        ("gnu.alt. A", Rcode.NXDOMAIN, "alt."),
        ("carol.p2p.alt. A", Rcode.NXDOMAIN, "p2p.alt."),
        ("x.carol.p2pdns.internal. A", Rcode.NXDOMAIN, "p2pdns.internal."),
        (f"{'y' * 52}.p2p.alt. A", Rcode.NXDOMAIN, "p2p.alt."),
        ("a.test. A", Rcode.NXDOMAIN, "test."),
        ("x.onion. A", Rcode.NXDOMAIN, "onion."),
        ("localhost. MX", Rcode.NOERROR, "localhost."),
        ("home.arpa. A", Rcode.NOERROR, "home.arpa."),
        ("1.1.168.192.in-addr.arpa. PTR", Rcode.NXDOMAIN, "168.192.in-addr.arpa."),
        ("0.0.127.in-addr.arpa. PTR", Rcode.NOERROR, "127.in-addr.arpa."),
    ],
)
def test_a_name_that_stays_here_is_denied_with_an_soa(text: str, rcode: Rcode, soa_owner: str) -> None:
    answer = resolved(text)
    assert (answer.rcode, answer.answer, answer.is_authoritative) == (rcode, (), True)
    assert [(str(rr.owner), rr.rtype) for rr in answer.authority] == [(soa_owner, Type.SOA)]
    assert answer.expiry > NOW


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("p2p.alt. SOA", [Type.SOA]),
        ("p2p.alt. NS", [Type.NS]),
        ("p2p.alt. ANY", [Type.SOA]),
        ("localhost. A", [Type.A]),
        ("db.localhost. AAAA", [Type.AAAA]),
        ("1.0.0.127.in-addr.arpa. PTR", [Type.PTR]),
    ],
)
def test_a_name_that_stays_here_is_answered(text: str, types: list[Type]) -> None:
    answer = resolved(text)
    assert (answer.rcode, [rr.rtype for rr in answer.answer]) == (Rcode.NOERROR, types)
    assert {rr.owner for rr in answer.answer} == {question(text).name}


# pkarr's key whose last character is not canonical, and the same bytes in canonical text, which are not a point.
@pytest.mark.parametrize(
    "label",
    ["c1bkg8tfsyy8wcedtmw4fwhdmm7bbzhgg3z58tf43m5ow8w9mbus", "c1bkg8tfsyy8wcedtmw4fwhdmm7bbzhgg3z58tf43m5ow8w9mbuo"],
)
def test_a_label_that_is_no_key_does_not_exist_and_is_not_forwarded(label: str) -> None:
    answer = resolved(f"www.{label}. A")
    assert (answer.rcode, answer.failure) == (Rcode.NXDOMAIN, False)
    assert [(str(rr.owner), rr.rtype) for rr in answer.authority] == [(f"{label}.", Type.SOA)]
    assert "is no zone key" in texts_of(answer)


@pytest.mark.parametrize("text", ["www.{a}lan. A", "www.{a}p2p.alt.lan. A", "www.alice.p2p.alt.home.example. A"])
def test_a_search_suffix_behind_a_name_of_ours_is_explained_and_not_forwarded(text: str) -> None:
    answer = resolved(text)
    assert answer.rcode == Rcode.NXDOMAIN
    assert "nothing may follow" in texts_of(answer)


OURS = st.sampled_from(["{k}", "{k}.p2p.alt", "{k}.P2PDNS.internal", "alice.p2p.alt", "other.alt", "{k}.lan"])


@given(
    labels=st.lists(st.text("abcxyz019-_", min_size=1, max_size=20), max_size=4),
    ending=OURS,
    raw=st.binary(min_size=32, max_size=32),
    upper=st.booleans(),
)
@settings(max_examples=200)
def test_no_name_of_ours_is_ever_forwarded(labels: list[str], ending: str, raw: bytes, upper: bool) -> None:
    key = str(A) if ending == "{k}.lan" else zbase32_of(raw)
    text = ".".join([*labels, ending.format(k=key.upper() if upper else key)])
    step = Resolution(Question(Name.read(text), Type.A), settings=SETTINGS, now=NOW, deadline=NOW + 4).next_step(NOW)
    assert not isinstance(step, Forward)


def zbase32_of(raw: bytes) -> str:
    """Return the 52 characters of any 32 bytes, a key or not."""
    alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769"
    number = int.from_bytes(raw) << 4
    return "".join(alphabet[number >> shift & 31] for shift in range(255, -5, -5))


@pytest.mark.parametrize("text", ["example.com. AXFR", "www.{a} IXFR", "{a} TSIG", "example.com. OPT"])
def test_a_question_that_is_no_look_up_of_data_is_refused(text: str) -> None:
    assert resolved(text).rcode == Rcode.REFUSED


# Answers of zones.


def test_an_answer_has_the_rest_of_its_ttl_and_depends_on_its_key() -> None:
    answer = resolved("www.{a} A", found(item_of("a", WWW), confirmed_at=NOW - 100.5))
    assert text_of(answer) == ["www.<a>. 199 A"]
    assert (answer.expiry, answer.provisional, answer.ad_eligible) == (NOW + 199, False, True)
    assert tag_of_zone(A) in answer.tags


def test_nodata_and_nxdomain_carry_the_zones_soa() -> None:
    item = item_of("a", WWW)
    for text, rcode in (("www.{a} AAAA", Rcode.NOERROR), ("nothing.{a} A", Rcode.NXDOMAIN)):
        answer = resolved(text, found(item))
        assert (answer.rcode, answer.answer) == (rcode, ())
        assert [(rr.owner, rr.rtype) for rr in answer.authority] == [(A.apex, Type.SOA)]
        assert answer.ad_eligible


def test_the_last_confirmation_counts_below_zero_as_zero() -> None:
    answer = resolved("www.{a} A", found(item_of("a", WWW), confirmed_at=NOW - 5000))
    assert (text_of(answer), answer.expiry) == (["www.<a>. 0 A"], NOW)


@pytest.mark.parametrize("reason", list(Missing))
def test_no_item_is_a_failure_and_never_an_absence(reason: Missing) -> None:
    answer = resolved("www.{a} A", NotFound(reason, retry_at=NOW + 40))
    assert (answer.rcode, answer.failure, answer.answer, answer.authority) == (Rcode.SERVFAIL, True, (), ())
    assert answer.ede[0][0] == (23 if reason is Missing.UNREACHABLE else 22)
    assert answer.expiry == NOW + 40
    assert not answer.ad_eligible


def test_an_item_past_its_expiry_is_served_as_stale() -> None:
    answer = resolved("www.{a} A", found(item_of("a", WWW), fresh=False))
    assert text_of(answer) == ["www.<a>. 30 A"]
    assert (answer.ede[0][0], answer.ad_eligible, answer.expiry) == (3, False, NOW + 30)
    assert resolved("x.{a} A", found(item_of("a", WWW), fresh=False)).ede[0][0] == 19


def test_an_item_that_could_not_be_confirmed_earns_no_ad_and_lives_briefly() -> None:
    answer = resolved("www.{a} A", found(item_of("a", WWW), confirmed_at=NOW - 9000, unconfirmed=True))
    assert (text_of(answer), answer.ad_eligible, answer.provisional) == (["www.<a>. 30 A"], False, False)
    assert [code for code, _ in answer.ede] == [3]


def unconfirmed(letter: str, *lines: str) -> Found:
    """Return an item that was settled once, and that no contact has confirmed since."""
    return found(item_of(letter, *lines), confirmed_at=NOW - 9000, unconfirmed=True)


def test_nothing_is_denied_on_an_item_that_nobody_confirmed() -> None:
    for outcome in (unconfirmed("a", WWW), unconfirmed("a", "_x.www 60 TXT deep"), unconfirmed("a")):
        for name in ("added.{a} A", "{a} A"):
            answer = resolved(name, outcome)
            assert (answer.rcode, answer.failure, answer.ad_eligible) == (Rcode.SERVFAIL, True, False), name
            assert "no contact has confirmed" in answer.ede[-1][1]


def test_an_item_that_nobody_confirmed_may_lack_a_type_of_a_name_it_has_and_keeps_its_delegations() -> None:
    answer = resolved("www.{a} AAAA", unconfirmed("a", WWW))
    assert (answer.rcode, answer.answer, answer.ad_eligible) == (Rcode.NOERROR, (), False)
    assert ([rr.ttl for rr in answer.authority], [code for code, _ in answer.ede]) == ([30], [3])
    answer = resolved("x.sub.{a} A", unconfirmed("a", "sub 60 NS {b}"), found(item_of("b", "x 60 A 192.0.2.9")))
    assert (answer.rcode, len(answer.answer), answer.ad_eligible) == (Rcode.NOERROR, 2, False)
    assert 3 in [code for code, _ in answer.ede]


def test_an_absence_behind_an_alias_that_nobody_confirmed_is_not_told() -> None:
    alias = unconfirmed("a", "www 60 CNAME x.{b}", "up 60 CNAME host.example.")
    assert resolved("www.{a} A", alias, found(item_of("b", WWW))).rcode == Rcode.SERVFAIL
    # Nothing but a name below it: no data, and no name that has any.
    assert resolved("www.{a} A", alias, found(item_of("b", "deep.x 60 TXT a"))).rcode == Rcode.SERVFAIL
    gone = reply_to(question("host.example. A"), rcode=Rcode.NXDOMAIN)
    assert resolved("up.{a} A", alias, Replied(gone)).rcode == Rcode.SERVFAIL
    # The other way round, too: what is denied is denied by the zone that nobody confirmed.
    firm = found(item_of("a", "www 60 CNAME x.{b}"))
    assert resolved("www.{a} A", firm, unconfirmed("b", WWW)).rcode == Rcode.SERVFAIL


# Provisional answers.


def test_what_does_not_hold_of_an_item_is_told_once_and_earns_no_ad() -> None:
    item = found(item_of("a", WWW, "x 300 CNAME www"), notes=("no mark is kept",))
    answer = resolved("x.{a} A", item)
    assert (answer.ad_eligible, answer.ede) == (False, ((0, "no mark is kept"),))
    assert "no mark is kept" in answer.trace
    # A negative answer rests on a settled item, and says so where there is none.
    refused = resolved("y.{a} A", *[replace(item, settled=False)] * 2)
    assert (refused.rcode, refused.ede[0]) == (Rcode.SERVFAIL, (0, "no mark is kept"))


def test_a_provisional_answer_lives_five_seconds_and_is_never_stale() -> None:
    answer = resolved("www.{a} A", found(item_of("a", WWW), settled=False))
    assert text_of(answer) == ["www.<a>. 5 A"]
    assert (answer.provisional, answer.ad_eligible) == (True, False)
    assert answer.expiry == answer.stale_until == NOW + 5


def test_a_provisional_item_may_deny_a_type_of_a_name_it_has() -> None:
    answer = resolved("www.{a} AAAA", found(item_of("a", WWW), settled=False))
    assert (answer.rcode, answer.answer, answer.provisional) == (Rcode.NOERROR, (), True)
    assert [rr.ttl for rr in answer.authority] == [5]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("nothing.{a} A", (WWW,)),
        ("ent.{a} A", ("x.ent 300 A 192.0.2.1",)),
        ("wild.{a} AAAA", ("* 300 A 192.0.2.1",)),
        ("{a} A", ()),
        ("{a} SOA", ()),
        ("x.friend.{a} A", ("friend 300 NS {b}",)),
        ("friend.{a} A", ("friend 300 NS {b}",)),
        ("friend.{a} DS", ("friend 300 NS {b}",)),
        ("friend.{a} A", ("friend 300 NS ns.example.",)),
        ("loop.{a} A", ("loop 300 CNAME pool", "pool 300 CNAME loop")),
        ("alias.{a} A", ("alias 300 CNAME nothing",)),
    ],
)
def test_what_a_provisional_item_cannot_carry_waits_for_the_complete_look_up(text: str, lines: tuple[str, ...]) -> None:
    item = item_of("a", *lines)
    resolution, _ = begin(text)
    assert resolution.step_done(found(item, settled=False), NOW) == Fetch(A, settled=True)
    # And when that does not come either, the question fails.
    end = resolution.step_done(found(item, settled=False), NOW)
    assert isinstance(end, Answered)
    assert (end.answer.rcode, end.answer.failure) == (Rcode.SERVFAIL, True)


def test_a_provisional_item_does_not_end_a_delegation_of_the_settled_one() -> None:
    before, after = item_of("a", "friend 300 NS {b}", age_s=9), item_of("a", "*.friend 300 A 192.0.2.1")
    resolution, _ = begin("x.friend.{a} A")
    provisional = found(after, settled=False, previous=found(before).zone)
    assert resolution.step_done(provisional, NOW) == Fetch(A, settled=True)


def test_one_provisional_link_makes_the_whole_chain_provisional() -> None:
    first = found(item_of("a", "www 300 CNAME www.{b}"), settled=False)
    answer = resolved("www.{a} A", first, found(item_of("b", WWW)))
    assert text_of(answer) == ["www.<a>. 5 CNAME", "www.<b>. 5 A"]
    assert (answer.provisional, answer.ad_eligible) == (True, False)


# Across keys.


def test_an_alias_to_another_key_is_followed_there() -> None:
    answer = resolved("www.{a} A", found(item_of("a", "www 60 CNAME www.{b}")), found(item_of("b", WWW)))
    assert text_of(answer) == ["www.<a>. 60 CNAME", "www.<b>. 300 A"]
    assert (answer.expiry, answer.ad_eligible) == (NOW + 60, True)
    assert {tag_of_zone(A), tag_of_zone(B)} <= set(answer.tags)


def test_a_dname_to_another_key_is_followed_there() -> None:
    answer = resolved("www.sub.{a} A", found(item_of("a", "sub 60 DNAME {b}")), found(item_of("b", WWW)))
    assert text_of(answer) == ["sub.<a>. 60 DNAME", "www.sub.<a>. 60 CNAME", "www.<b>. 300 A"]


def test_below_a_cut_the_delegated_zone_answers() -> None:
    zone_a, zone_b = found(item_of("a", "friend 70 NS {b}")), found(item_of("b", WWW))
    answer = resolved("www.friend.{a} A", zone_a, zone_b)
    assert text_of(answer) == ["www.friend.<a>. 70 CNAME", "www.<b>. 300 A"]
    denied = resolved("no.friend.{a} A", zone_a, zone_b)
    assert (denied.rcode, [rr.owner for rr in denied.authority]) == (Rcode.NXDOMAIN, [B.apex])


def test_at_a_cut_ns_and_ds_stay_with_the_parent() -> None:
    zone_a = found(item_of("a", "friend 70 NS {b}"))
    assert text_of(resolved("friend.{a} NS", zone_a)) == ["friend.<a>. 70 NS"]
    assert resolved("friend.{a} DS", zone_a).answer == ()


def test_of_several_delegates_the_first_in_canonical_order_with_an_item_goes_on() -> None:
    letters = sorted("bcd", key=lambda letter: KEYS[letter].apex.canonical_key())
    zone_a = found(item_of("a", *(f"friend 70 NS {{{letter}}}" for letter in "bcd")))
    resolution, _ = begin("www.friend.{a} A")
    assert resolution.step_done(zone_a, NOW) == Fetch(KEYS[letters[0]], settled=True)
    assert resolution.step_done(NotFound(Missing.ABSENT), NOW) == Fetch(KEYS[letters[1]], settled=True)
    end = resolution.step_done(found(item_of(letters[1], WWW)), NOW)
    assert isinstance(end, Answered)
    assert [target_of(rr) for rr in end.answer.answer[:1]] == [f"www.<{letters[1]}>."]


def test_a_delegation_to_a_host_name_is_not_followed() -> None:
    answer = resolved("www.friend.{a} A", found(item_of("a", "friend 70 NS ns.example.")))
    assert (answer.rcode, answer.failure) == (Rcode.SERVFAIL, True)
    assert "host name" in texts_of(answer)


def test_an_alias_loop_across_keys_ends_in_servfail() -> None:
    zone_a, zone_b = found(item_of("a", "www 60 CNAME www.{b}")), found(item_of("b", "www 60 CNAME www.{a}p2p.alt."))
    answer = resolved("www.{a} A", zone_a, zone_b)
    assert (answer.rcode, answer.answer) == (Rcode.SERVFAIL, ())
    assert "back to it" in texts_of(answer)


# The budget.


def test_a_chain_of_twenty_keys_ends_in_servfail_within_the_budget() -> None:
    resolution, step = begin("k0.{a} A")
    count = 0
    while isinstance(step, Fetch) and count < 20:
        count += 1
        item = item_of(
            "a" if step.zone_id == A else "b", f"* 60 CNAME k{count}.{'{b}' if step.zone_id == A else '{a}'}"
        )
        step = resolution.step_done(found(item, lookup=count, rpc_count=10), NOW)
    assert count == STEPS_MAX
    assert isinstance(step, Answered)
    assert (step.answer.rcode, step.answer.rpc_count) == (Rcode.SERVFAIL, 10 * STEPS_MAX)


def test_the_time_of_a_question_ends_it() -> None:
    resolution, _ = begin("www.{a} A")
    end = resolution.step_done(found(item_of("a", "www 60 CNAME www.{b}")), NOW + 4)
    assert isinstance(end, Answered)
    assert (end.answer.rcode, end.answer.expiry) == (Rcode.SERVFAIL, NOW + 5)


def test_rpcs_and_cold_gets_are_charged_once_for_each_look_up() -> None:
    resolution, _ = begin("nothing.{a} A")
    resolution.step_done(found(item_of("a", WWW), settled=False, lookup=7, rpc_count=40), NOW)
    assert (resolution.rpcs_left, resolution.cold_gets_left) == (QUESTION_RPCS_MAX - 40, QUESTION_LOOKUPS_MAX - 1)
    resolution.step_done(found(item_of("a", WWW), lookup=7, rpc_count=55), NOW)
    assert (resolution.rpcs_left, resolution.cold_gets_left) == (QUESTION_RPCS_MAX - 55, QUESTION_LOOKUPS_MAX - 1)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_outcomes_end_within_the_steps_and_no_failure_denies_a_name(data: st.DataObject) -> None:
    lines = st.sampled_from(
        ["* 60 CNAME x.{a}", "* 60 CNAME y.{b}", "x 60 A 192.0.2.1", "@ 60 DNAME q.{b}", "x 60 NS {b}", "y 60 NS h.de."]
    )
    resolution, step = begin(data.draw(st.sampled_from(["x.{a} A", "y.x.{b} A", "{a} NS", "x.alice.p2p.alt. DS"])))
    for _ in range(STEPS_MAX + 1):
        if isinstance(step, Answered):
            break
        outcome: Outcome
        if isinstance(step, Forward):
            outcome = NoReply("none")
        elif data.draw(st.booleans()):
            letter = "a" if step.zone_id == A else "b"
            outcome = found(item_of(letter, *data.draw(st.sets(lines, max_size=3))), settled=data.draw(st.booleans()))
        else:
            outcome = NotFound(data.draw(st.sampled_from(list(Missing))))
        step = resolution.step_done(outcome, NOW)
    assert isinstance(step, Answered)
    answer = step.answer
    assert not (answer.provisional and answer.rcode == Rcode.NXDOMAIN)
    assert not (answer.failure and answer.rcode == Rcode.NXDOMAIN)
    assert not (answer.ad_eligible and (answer.provisional or answer.failure))
    if answer.rcode == Rcode.NXDOMAIN:
        assert answer.authority


PACKET = compose(
    Message(
        0,
        0x8000,
        None,
        records_of(
            rrsets(
                A.apex,
                WWW,
                "* 60 CNAME x.{b}",
                "sub 60 DNAME {b}",
                "friend 60 NS {b}",
                "@ 60 MX 10 mail",
                "h 60 HTTPS 000100000400040a000001",
            )
        ),
    )
)


@given(
    patches=st.lists(st.tuples(st.integers(0, len(PACKET) - 1), st.integers(0, 255)), max_size=4),
    text=st.sampled_from(["www.{a} A", "q.{a}p2p.alt. A", "x.sub.alice.p2p.alt. A", "h.{a}p2pdns.internal. HTTPS"]),
    settled=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_hostile_zone_of_whatever_content_ends_in_an_answer(
    patches: list[tuple[int, int]], text: str, settled: bool
) -> None:
    value = bytearray(PACKET)
    for position, byte in patches:
        value[position] = byte
    item = MutableItem.signed(SECRETS["a"], 1_800_000_000_000_000, bytes(value))
    try:
        zone_of(item)
    except BadItem:
        return
    resolution, step = begin(text)
    for _ in range(2 * STEPS_MAX):
        if isinstance(step, Answered):
            break
        outcome: Outcome = NoReply("none")
        if isinstance(step, Fetch):
            # A patched byte may make one key name another, of which nobody has an item.
            zones = {A: item, B: item_of("b", WWW)}
            is_known = step.zone_id in zones
            outcome = found(zones[step.zone_id], settled=settled) if is_known else NotFound(Missing.ABSENT)
        step = resolution.step_done(outcome, NOW)
    assert isinstance(step, Answered)
    answer = step.answer
    # Nobody but the key of a name speaks for it, and no address of the reader's network gets through.
    for rr in answer.answer:
        assert rr.owner == answer.question.name or not isinstance(SETTINGS.place_of(rr.owner), Elsewhere)
        assert rr.rdata != bytes([10, 0, 0, 1])
    compose(Message(0, 0x8000, answer.question, answer.answer, answer.authority, answer.additional))


# Suffixes.

NAME_RDATA = {
    "CNAME": "{}",
    "DNAME": "{}",
    "NS": "{}",
    "PTR": "{}",
    "SOA": "{}{}" + "00000001" * 5,
    "MX": "000a{}",
    "SRV": "000a00050050{}",
    "NAPTR": "0064000a0155077365727669636500{}",
    "SVCB": "0001{}000300020050",
    "HTTPS": "0001{}000300020050",
}


@pytest.mark.parametrize("rtype", NAME_RDATA)
@pytest.mark.parametrize(
    ("suffix", "owner", "inside", "outside"),
    [
        ("p2p.alt", "x.<a>.p2p.alt.", "mail.<a>.p2p.alt.", "mail.<b>.p2p.alt."),
        ("", "x.<a>.", "mail.<a>.", "mail.<b>."),
        ("petname", "x.alice.p2p.alt.", "mail.alice.p2p.alt.", "mail.<b>.p2p.alt."),
    ],
)
def test_names_in_rdata_have_the_form_of_the_question(
    rtype: str, suffix: str, owner: str, inside: str, outside: str
) -> None:
    for target, expected in (("mail.{a}", inside), ("mail.{b}", outside), ("mail.example.", "mail.example.")):
        wire = name_of(target, A.apex).wire()
        rdata = NAME_RDATA[rtype].format(wire.hex(), wire.hex())
        at = "x" if rtype != "SOA" else "@"
        owner_here = owner if at == "x" else owner.removeprefix("x.")
        item = item_of("a", WWW)
        zone = Zone.of(A.apex, [*rrsets(A.apex, WWW), raw(at, rtype, rdata)], item.seq)
        asked = owner_here.replace("<a>.", "{a}")
        answer = resolved(f"{asked} {rtype}", replace(found(item), zone=zone))
        (rr,) = answer.answer
        seen = [shown(str(name)) for name in names_in(rr.rtype, rr.rdata)]
        assert (shown(str(rr.owner)), set(seen)) == (owner_here, {expected})


def raw(owner: str, rtype: str, rdata: str) -> RRset:
    """Return an RRset of raw RDATA at a name of zone a."""
    (rrset,) = rrsets(A.apex, f"{owner} 300 TXT x")
    return values.replace(rrset, rtype=int(Type[rtype]), rdatas=(bytes.fromhex(rdata),))


def test_a_petname_keeps_its_form_through_a_delegation() -> None:
    zone_a, zone_b = found(item_of("a", "bob 60 NS {b}")), found(item_of("b", WWW))
    answer = resolved("www.bob.alice.p2p.alt. A", zone_a, zone_b)
    assert text_of(answer) == ["www.bob.alice.p2p.alt. 60 CNAME", "www.<b>.p2p.alt. 300 A"]
    assert target_of(answer.answer[0]) == "www.<b>.p2p.alt."
    assert tag_of_petname(b"alice") in answer.tags


def test_a_negative_answer_below_a_suffix_has_the_soa_below_it() -> None:
    answer = resolved("no.{a}p2p.alt. A", found(item_of("a", WWW)))
    assert [shown(str(rr.owner)) for rr in answer.authority] == ["<a>.p2p.alt."]


def test_the_owner_of_an_answer_is_the_name_of_the_question_itself() -> None:
    answer = resolved("WWW.{a} A", found(item_of("a", "WwW 300 A 192.0.2.1")))
    assert answer.answer[0].owner.labels == answer.question.name.labels
    assert answer.question.name.labels[0] == b"www"


def test_a_record_too_long_below_the_suffix_is_left_out_and_said_so() -> None:
    long = ".".join(["x" * 62] * 3)
    item = item_of("a", f"x 60 MX 10 {long}", "x 60 MX 20 mail")
    assert len(resolved("x.{a} MX", found(item)).answer) == 2
    answer = resolved("x.{a}p2pdns.internal. MX", found(item))
    assert (len(answer.answer), "left out" in texts_of(answer)) == (1, True)


def test_an_alias_too_long_below_the_suffix_is_a_failure_and_no_empty_answer() -> None:
    long = ".".join(["x" * 62] * 3)
    answer = resolved("x.{a}p2pdns.internal. A", found(item_of("a", f"x 60 CNAME {long}", f"{long} 60 A 192.0.2.1")))
    assert (answer.rcode, answer.answer) == (Rcode.SERVFAIL, ())


@pytest.mark.parametrize("size", range(1, 62))
def test_a_name_that_fits_below_a_petname_and_not_below_its_key_does_not_exist(size: int) -> None:
    options = ResolverSettings.of(petnames={"al": str(A)})
    text = ".".join(["x" * 61] * 3 + ["y" * size, "al.p2p.alt."])
    if len(text) > 254:
        return
    _, step = begin(f"{text} A", options)
    if isinstance(step, Fetch):
        # The key in place of the petname is 50 bytes longer.
        assert len(text) + 1 + 50 - len("p2p.alt.") <= 255
        return
    assert isinstance(step, Answered)
    assert (step.answer.rcode, step.answer.failure) == (Rcode.NXDOMAIN, False)
    assert [str(rr.owner) for rr in step.answer.authority] == ["al.p2p.alt."]
    assert "too long" in texts_of(step.answer)


def test_a_name_too_long_below_a_petname_takes_nothing_else_of_an_upstreams_answer_along() -> None:
    options = ResolverSettings.of(petnames={"al": str(A)})
    long = f"{'.'.join(['x' * 61] * 3)}.{'y' * 40}.al.p2p.alt."
    text = "www.example. A"
    lines = ("www.example. 60 A 192.0.2.1", f"{long} 60 A 192.0.2.2", f"www.example. 60 MX 10 {long}")
    answer = resolved(text, replied(text, *lines), options=options)
    assert answer.rcode == Rcode.NOERROR
    assert answer.answer[0].rdata == bytes([192, 0, 2, 1])
    # An alias to it ends there, as an alias to any name that does not exist.
    aliased = resolved(text, replied(text, f"www.example. 60 CNAME {long}"), options=options)
    assert (aliased.rcode, len(aliased.answer)) == (Rcode.NXDOMAIN, 1)


@pytest.mark.parametrize("rtype", sorted(NAME_TYPES))
def test_every_type_with_a_name_too_long_to_be_told_is_left_out_alone(rtype: int) -> None:
    long = Name.read(".".join(["x" * 62] * 3)).under(A.apex).wire()
    before = {Type.MX: bytes(2), Type.SRV: bytes(6), Type.NAPTR: bytes(7), Type.SVCB: b"\0\1", Type.HTTPS: b"\0\1"}
    rdata = before.get(Type(rtype), b"") + long + (long + bytes(20) if rtype == Type.SOA else b"")
    item = item_of("a", "x 60 A 192.0.2.1")
    draft = Draft(Question(Name.read("x.p2p.alt"), Type.ANY), SETTINGS)
    draft.view = View(Name.read("p2pdns.internal"))
    rrsets = [RRset(A.apex, rtype, 60, (rdata,)), RRset(A.apex, Type.A, 60, (bytes([192, 0, 2, 1]),))]
    assert not draft.add_rrsets(draft.answer, rrsets, found(item), NOW)
    assert [rr.rtype for rr in draft.answer] == [Type.A]


# Upstreams.


def replied(text: str, *lines: str, **more: object) -> Replied:
    """Return an upstream's reply."""
    ad = bool(more.pop("ad", False))
    return Replied(reply_to(question(text), *lines, **more), ad=ad)  # type: ignore[arg-type]


def test_an_upstreams_answer_passes_through() -> None:
    text = "example.com. A"
    soa = ("com. 900 NS a.example.",)
    answer = resolved(text, replied(text, "example.com. 60 A 10.0.0.1", authority=soa))
    assert text_of(answer) == ["example.com. 60 A"]
    assert (len(answer.authority), answer.ad_eligible, answer.ede) == (1, False, ())


def test_ad_of_a_trusted_upstream_passes() -> None:
    text = "example.com. A"
    assert resolved(text, replied(text, "example.com. 60 A 192.0.2.1", ad=True)).ad_eligible


def test_records_in_which_an_upstream_speaks_for_names_of_ours_are_dropped() -> None:
    text = "example.com. A"
    lines = ("example.com. 60 A 192.0.2.1", "www.{a} 60 A 192.0.2.2", "x.alice.p2p.alt. 60 A 192.0.2.3")
    assert text_of(resolved(text, replied(text, *lines))) == ["example.com. 60 A"]


def test_behind_an_upstreams_alias_into_the_overlay_the_zone_answers() -> None:
    text = "example.com. A"
    lie = replied(text, "example.com. 60 CNAME www.{a}", "www.{a} 60 A 192.0.2.66", rcode=3)
    answer = resolved(text, lie, found(item_of("a", WWW)))
    assert (text_of(answer), answer.rcode) == (["example.com. 60 CNAME", "www.<a>. 300 A"], Rcode.NOERROR)
    assert answer.answer[-1].rdata == bytes([192, 0, 2, 1])
    assert not answer.ad_eligible


def test_a_zones_alias_to_an_ordinary_name_is_forwarded_and_earns_no_ad() -> None:
    resolution, _ = begin("www.{a}p2p.alt. A")
    step = resolution.step_done(found(item_of("a", "www 60 CNAME example.com.")), NOW)
    assert step == Forward(question("example.com. A"))
    end = resolution.step_done(replied("example.com. A", "example.com. 60 A 192.0.2.1"), NOW)
    assert isinstance(end, Answered)
    assert text_of(end.answer) == ["www.<a>.p2p.alt. 60 CNAME", "example.com. 60 A"]
    assert not end.answer.ad_eligible


def test_without_an_upstream_other_names_are_refused_and_aliases_to_them_fail() -> None:
    none = NoReply("no upstream is configured", is_refusal=True)
    refused = resolved("example.com. A", none)
    assert (refused.rcode, refused.ede[0][0]) == (Rcode.REFUSED, 20)
    assert not refused.ad_eligible
    assert resolved("www.{a} A", found(item_of("a", "www 60 CNAME example.com.")), none).rcode == Rcode.SERVFAIL


def test_a_dead_upstream_is_servfail_until_it_may_be_asked_again() -> None:
    dead = NoReply("no upstream answered", is_remembered=True, retry_at=NOW + 20)
    answer = resolved("example.com. A", dead)
    assert (answer.rcode, [code for code, _ in answer.ede], answer.expiry) == (Rcode.SERVFAIL, [13, 23], NOW + 20)


@pytest.mark.parametrize("rcode", [1, 2, 4, 5, 9, 10])
def test_an_upstream_that_fails_is_servfail(rcode: int) -> None:
    text = "example.com. A"
    assert resolved(text, replied(text, rcode=rcode)).rcode == Rcode.SERVFAIL


def test_a_ttl_with_the_top_bit_counts_as_zero() -> None:
    asked = question("example.com. A")
    rr = RR(asked.name, Type.A, 1, 2**31, bytes([192, 0, 2, 1]))
    answer = resolved("example.com. A", Replied(Message(0, 0x8180, asked, (rr,))))
    assert (answer.answer[0].ttl, answer.expiry) == (0, NOW)


def test_an_upstreams_rrset_has_the_lowest_of_its_ttls() -> None:
    text = "example.com. A"
    unequal = [f"example.com. {ttl} A 192.0.2.{number}" for number, ttl in enumerate((300, 30, 900))]
    answer = resolved(text, replied(text, *unequal))
    assert ([rr.ttl for rr in answer.answer], answer.expiry) == ([30, 30, 30], NOW + 30)


def test_an_upstreams_absence_lasts_for_the_minimum_of_its_soa_and_the_soa_itself_for_its_ttl() -> None:
    soa = f"com. 300 SOA 0000{bytes(16).hex()}{60:08x}"
    absent = resolved("example.com. A", replied("example.com. A", rcode=Rcode.NXDOMAIN, authority=(soa,)))
    assert (absent.authority[0].ttl, absent.expiry) == (60, NOW + 60)
    assert resolved("com. SOA", replied("com. SOA", soa)).answer[0].ttl == 300


# Rebinding.

PRIVATE = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_strangers_address_of_the_readers_network_is_withheld(address: str) -> None:
    item = item_of("a", f"www 300 A {address}", "www 300 A 192.0.2.1")
    answer = resolved("www.{a} A", found(item))
    assert [rr.rdata for rr in answer.answer] == [bytes([192, 0, 2, 1])]
    assert answer.ede[0][0] == 15
    alone = resolved("www.{a} A", found(item_of("a", f"www 300 A {address}")))
    assert (alone.rcode, alone.answer, [rr.rtype for rr in alone.authority]) == (0, (), [Type.SOA])


def test_what_was_taken_from_an_answer_takes_its_ad_along() -> None:
    """AD says that the publisher has signed just this, and he has signed more."""
    safe, risk = "www 300 A 192.0.2.1", "www 300 A 10.0.0.1"
    assert resolved("www.{a} A", found(item_of("a", safe))).ad_eligible
    assert not resolved("www.{a} A", found(item_of("a", safe, risk))).ad_eligible
    assert not resolved("www.{a} A", found(item_of("a", risk))).ad_eligible
    long = item_of("a", f"x 60 MX 10 {'.'.join(['x' * 62] * 3)}", "x 60 MX 20 mail")
    assert not resolved("x.{a}p2pdns.internal. MX", found(long)).ad_eligible


def test_a_trusted_zone_may_publish_private_addresses() -> None:
    options = ResolverSettings.of(petnames={"alice": str(A)}, private_zones=["alice"])
    answer = resolved("www.{a} A", found(item_of("a", "www 300 A 10.0.0.1")), options=options)
    assert (len(answer.answer), answer.ede) == (1, ())


def test_a_strangers_alias_does_not_lead_to_a_trusted_zones_private_address() -> None:
    options = ResolverSettings.of(private_zones=[str(A)])
    zone_b, zone_a = found(item_of("b", "www 60 CNAME www.{a}")), found(item_of("a", "www 300 A 10.0.0.1"))
    assert text_of(resolved("www.{b} A", zone_b, zone_a, options=options)) == ["www.<b>. 60 CNAME"]


@pytest.mark.parametrize("text", ["localhost.", "router.example."])
def test_a_strangers_alias_does_not_lead_to_private_addresses_of_others(text: str) -> None:
    outcomes: list[Outcome] = [found(item_of("a", f"www 60 CNAME {text}"))]
    if text != "localhost.":
        outcomes.append(replied(f"{text} A", f"{text} 60 A 192.168.0.1"))
    assert text_of(resolved("www.{a} A", *outcomes)) == ["www.<a>. 60 CNAME"]


def svcb(*params: tuple[int, str]) -> str:
    """Return RDATA of HTTPS with the root as target."""
    body = "".join(f"{key:04x}{len(value) // 2:04x}{value}" for key, value in params)
    return "000100" + body


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (svcb((1, "026832"), (4, "0a000001c0000201")), svcb((1, "026832"), (4, "c0000201"))),
        (svcb((1, "026832"), (4, "0a000001")), svcb((1, "026832"))),
        (svcb((6, "00" * 15 + "01"), (7, "2f")), svcb((7, "2f"))),
        (svcb((4, "c0000201")), svcb((4, "c0000201"))),
        (svcb((0, "0004"), (4, "0a000001")), None),
        (svcb((4, "0a0000")), None),
    ],
)
def test_hints_of_the_readers_network_are_stripped(before: str, after: str | None) -> None:
    item = item_of("a", WWW)
    zone = Zone.of(A.apex, [raw("x", "HTTPS", before)], item.seq)
    answer = resolved("x.{a} HTTPS", replace(found(item), zone=zone))
    assert [rr.rdata.hex() for rr in answer.answer] == ([] if after is None else [after])


# Settings.


@pytest.mark.parametrize(
    "bad",
    [
        {"suffixes": ["."]},
        {"suffixes": [f"x.{A}"]},
        {"suffixes": ["a..b"]},
        {"petnames": {"with.dot": str(A)}},
        {"petnames": {str(B): str(A)}},
        {"petnames": {"alice": "short"}},
        {"private_zones": ["nobody"]},
    ],
)
def test_settings_that_mean_nothing_are_a_config_error(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ResolverSettings.of(**bad)  # type: ignore[arg-type]


def test_an_answer_that_depends_on_too_many_things_is_not_kept() -> None:
    resolution, _ = begin("www.{a} A")
    resolution._draft.depend_on(*(bytes([number]) * 8 for number in range(16)))
    end = resolution.step_done(found(item_of("a", WWW)), NOW)
    assert isinstance(end, Answered)
    assert not end.answer.cacheable
    assert len(end.answer.tags) <= 16


def test_the_trace_tells_the_way_in_plain_words() -> None:
    zone_a, zone_b = found(item_of("a", "www 60 CNAME www.{b}"), lookup=3, rpc_count=9), found(item_of("b", WWW))
    trace = "\n".join(resolved("www.alice.p2p.alt. A", zone_a, zone_b).trace)
    for words in ("petname alice", "(look-up 3)", "an alias leads to", "the zone says answer"):
        assert words in trace


def test_of_an_upstreams_message_sixty_four_names_are_looked_at() -> None:
    lines = [f"n{n}.example. 60 A 192.0.2.1" for n in range(OWNERS_MAX + 8)]
    answer = resolved("last.example. A", replied("last.example. A", *lines, "last.example. 60 A 192.0.2.1", ad=True))
    assert not answer.answer
    assert f"{OWNERS_MAX + 9} names" in texts_of(answer)
    assert not answer.ad_eligible
    # As many records of one name as there are, are told.
    many = [f"n0.example. 60 A 192.0.2.{n}" for n in range(200)]
    assert len(resolved("n0.example. A", replied("n0.example. A", *many)).answer) == 200


@pytest.mark.parametrize("petname", ["", "a" * 64, "a.b", "-x", "x-", str(A)])
def test_what_is_not_one_label_beside_the_keys_is_no_petname(petname: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a petname|looks like a zone key"):
        ResolverSettings.of(petnames={petname: str(A)})


def test_a_petname_may_have_1_to_63_characters() -> None:
    assert ResolverSettings.of(petnames={"a": str(A), "b" * 63: str(A)}).petnames
