"""`flush` through both processes: the front forgets its answer, or nobody has flushed anything."""

from __future__ import annotations

from pathlib import Path

from tests.live.front_process import wait_until
from tests.live.served import KEY, Served, p2pdns

PROVISIONAL_S_MAX = 5  # An answer with a longer TTL is settled, and stays with the front for minutes.


def test_a_flushed_answer_is_asked_of_the_engine_again(tmp_path: Path) -> None:
    other = Served(tmp_path / "other", "--no-dns")
    daemon = Served(tmp_path / "state", "--bootstrap", other.status()["dht_address"])
    name = f"www.{KEY}"

    def asked_count() -> int:
        daemon.ask(name)
        count: int = daemon.status()["counters"]["link"]["queries"]
        return count

    def is_kept() -> bool:
        reply = daemon.ask(name)
        return bool(reply.answer) and reply.answer[0].ttl > PROVISIONAL_S_MAX

    try:
        wait_until(lambda: daemon.status()["contacts"] > 0, "a contact")
        assert daemon.publish(tmp_path).returncode == 0
        for words, flushed in (([name], KEY), (["--zone", KEY], KEY), (["--all"], "everything")):
            wait_until(is_kept, "a settled answer")
            before = asked_count()
            assert asked_count() == before, "the front has an answer of its own"
            done = p2pdns("flush", *words, "--state", daemon.state)
            assert (done.returncode, done.stdout) == (0, f"flushed: {flushed}\n"), done
            wait_until(lambda before=before: asked_count() > before, f"the question after flush {words}")  # type: ignore[misc]
    finally:
        codes = [daemon.end(), other.end()]
    assert codes == [0, 0]
