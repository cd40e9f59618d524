"""RFC 9619: a query has one question."""

from __future__ import annotations

import pytest

from tests.conformance import wire
from tests.conformance.world import KEY, Client

ONE = wire.question(f"www.{KEY}")


@pytest.mark.parametrize("count", [2, 3, 20])
def test_more_than_one_question_is_a_format_error(client: Client, count: int) -> None:
    for additional in ([], [wire.opt()]):
        response = client(wire.query(questions=[ONE] * count, additional=additional))
        assert (response.rcode, response.answer) == (wire.FORMERR, ())
        assert response.counts[0] <= 1


@pytest.mark.parametrize("count", [2, 65_535])
def test_a_count_of_more_than_the_one_question_there_is_is_a_format_error(client: Client, count: int) -> None:
    query = bytearray(wire.query(questions=[ONE]))
    query[4:6] = count.to_bytes(2)
    assert client(bytes(query)).rcode == wire.FORMERR


def test_no_question_is_a_format_error(client: Client) -> None:
    response = client(wire.query(questions=[]))
    assert (response.rcode, response.counts) == (wire.FORMERR, (0, 0, 0, 0))


def test_the_rule_is_for_queries_and_not_for_other_opcodes(client: Client) -> None:
    assert client(wire.query(questions=[ONE, ONE], flags=0x2800)).rcode == wire.NOTIMP


def test_one_question_is_answered(client: Client) -> None:
    assert client(wire.query(questions=[ONE])).counts[:2] == (1, 1)
