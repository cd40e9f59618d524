"""The latest word of each prefix: the leader by counting anew, whatever was said in whatever order."""

from __future__ import annotations

from collections import Counter, OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from p2pdns.dht.node.votes import Votes

PREFIXES_MAX = 4


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), min_size=1, max_size=40))
def test_the_leader_is_that_of_a_new_count(said: list[tuple[str, str]]) -> None:
    votes: Votes[str] = Votes(PREFIXES_MAX)
    latest: OrderedDict[str, str] = OrderedDict()
    for prefix, word in said:
        votes.note(prefix, word)
        latest[prefix] = word
        latest.move_to_end(prefix)
        if len(latest) > PREFIXES_MAX:
            latest.popitem(last=False)
        assert votes.leader() == Counter(latest.values()).most_common(1)[0]
        assert len(votes) == len(latest)
        assert votes.counts() == Counter(latest.values())
        assert votes.word_of(prefix) == word
