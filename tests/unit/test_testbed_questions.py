"""What dig prints, read as values: one answer a question, whatever became of each."""

from __future__ import annotations

import pytest

from deploy.testbed.questions import Answer, Digging, Record, read_answers

HEAD = """
; <<>> DiG 9.18.49 <<>> @127.0.0.1 -p 5300 +tries=1 +time=5 -q www.a -t A
; (1 server found)
;; global options: +cmd
"""
FOUND = """;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 762
;; flags: qr rd ra ad; QUERY: 1, ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 1

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232
; COOKIE: 0318302881cd92f9f00000006b0140844601d2ff5abcb2a7 (good)
;; QUESTION SECTION:
;www.a.				IN	A

;; ANSWER SECTION:
www.a.			60	IN	CNAME	b.a.
b.a.			300	IN	A	192.0.2.1

;; Query time: 48 msec
;; SERVER: 127.0.0.1#5300(127.0.0.1) (UDP)
;; WHEN: Sat Nov 21 06:56:04 UTC 2026
;; MSG SIZE  rcvd: 123

"""
FAILED = """;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: SERVFAIL, id: 58158
;; flags: qr rd ra; QUERY: 1, ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 1

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232
; EDE: 22 (No Reachable Authority): (nobody has it)
; EDE: 3 (Stale Answer)
;; QUESTION SECTION:
;www.b.				IN	TXT

;; Query time: 0 msec

"""
NEGATIVE = """;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NXDOMAIN, id: 26723
;; flags: qr rd ra; QUERY: 1, ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 1

;; QUESTION SECTION:
;old.test.			IN	SOA

;; AUTHORITY SECTION:
test.			300	IN	SOA	localhost. nobody.invalid. 1 3600 1200 604800 300

;; Query time: 4 msec

"""
SILENT = """;; communications error to 127.0.0.1#5300: timed out
;; no servers could be reached
"""


def test_each_answer_has_what_dig_said_of_it() -> None:
    questions = [("www.a", "a"), ("www.b", "TXT"), ("old.test", "SOA")]
    found, failed, negative = read_answers(questions, HEAD + FOUND + FAILED + NEGATIVE)
    assert found == Answer(
        "www.a",
        "A",
        rcode="NOERROR",
        flags=("qr", "rd", "ra", "ad"),
        answers=(Record("www.a.", 60, "CNAME", "b.a."), Record("b.a.", 300, "A", "192.0.2.1")),
        ms=48,
    )
    assert found.data == ["192.0.2.1"]
    assert (failed.rcode, failed.ede, failed.ms) == ("SERVFAIL", ((22, "nobody has it"), (3, "")), 0)
    assert negative.rcode == "NXDOMAIN"
    assert negative.answers == ()
    assert negative.authority[0].data == "localhost. nobody.invalid. 1 3600 1200 604800 300"


@pytest.mark.parametrize("silent_index", [0, 1, 2])
def test_a_question_without_a_response_keeps_its_place(silent_index: int) -> None:
    blocks = [FOUND, FOUND]
    blocks.insert(silent_index, SILENT)
    answers = read_answers([("a", "A")] * 3, HEAD + "".join(blocks))
    assert [answer.rcode for answer in answers] == [None if index == silent_index else "NOERROR" for index in range(3)]


@pytest.mark.parametrize("text", ["", "dig: couldn't get address for 'x': not found\n", HEAD])
def test_a_dig_that_said_nothing_answered_nothing(text: str) -> None:
    assert read_answers([("a", "A"), ("b", "MX")], text) == [Answer("a", "A"), Answer("b", "MX")]


def test_an_answer_is_json_with_names_for_its_errors() -> None:
    (failed,) = read_answers([("www.b", "TXT")], FAILED)
    assert failed.facts()["ede"] == [{"code": 22, "text": "nobody has it"}, {"code": 3, "text": ""}]


def test_a_name_that_reads_like_a_flag_stays_a_name() -> None:
    command = Digging("127.0.0.1", 5300).command([("+short", "A"), ("@x", "MX")])
    assert command[:4] == ["dig", "@127.0.0.1", "-p", "5300"]
    assert command[-8:] == ["-q", "+short", "-t", "A", "-q", "@x", "-t", "MX"]
