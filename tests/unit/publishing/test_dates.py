"""Dates of publications: computed from the number alone, and as the system's library has them."""

from __future__ import annotations

import time

from hypothesis import example, given
from hypothesis import strategies as st

from p2pdns.publishing.dates import date_of

SEQ_MAX = 2**63 - 1


@given(st.integers(0, SEQ_MAX))
@example(0)
@example(SEQ_MAX)
@example(951_782_399_999_999)  # The last second of 28 February 2000, a leap year for all that it is a hundredth.
@example(951_868_800_000_000)  # The first of 1 March 2000.
@example(4_107_542_399_000_000)  # The last of 28 February 2100, which is none.
@example(4_107_542_400_000_000)  # The first of 1 March 2100.
@example(4_102_444_799_000_000)  # The last of 2099.
def test_a_seq_claims_the_date_that_the_system_shows_for_it(seq: int) -> None:
    assert date_of(seq) == time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seq // 1_000_000))
