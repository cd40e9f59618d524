"""The checks of `doctor` on files and facts: what is a problem, and what cannot be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pdns.cli import dnsclient
from p2pdns.cli.doctor import checks, lines_of
from p2pdns.cli.doctor.checks import Finding
from p2pdns.cli.doctor.machine import Done, Machine, is_here

KEY = "o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy"
ETC, LIB = "etc/systemd/resolved.conf", "usr/lib/systemd/resolved.conf"
STUB = "nameserver 127.0.0.53\n"


class Told(Machine):
    """A machine whose programs print what a test says, and whose name servers lead here or not, as it says."""

    programs: dict[str, str]
    ours: tuple[str, ...]

    def run(self, *words: str) -> Done | None:
        """Return what was said for these words."""
        text = self.programs.get(" ".join(words))
        return None if text is None else Done(0, text)

    def leads_here(self, host: str) -> bool | None:
        """Return what was said."""
        return host in self.ours


def machine(
    root: Path,
    files: dict[str, str] | None = None,
    facts: dict[str, Any] | None = None,
    programs: dict[str, str] | None = None,
    ours: tuple[str, ...] = (),
) -> Told:
    """Return a machine with these files, facts and programs."""
    for path, text in (files or {}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    made = Told({"pid": 1} if facts is None else facts, ("p2p.alt", "p2pdns.internal"), root)
    made.programs, made.ours = programs or {}, ours
    return made


def problem(about: str) -> dict[str, Any]:
    """Return facts with a problem of the daemon's own."""
    return {"problems": [{"about": about, "cause": "a cause", "remedy": "a remedy", "command": "a command"}]}


def test_each_check_says_the_same_of_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    made = machine(tmp_path, {"etc/resolv.conf": "nameserver 127.0.0.1\n"}, facts={}, ours=("127.0.0.1",))
    found = {check.__name__: check(made) for check in checks.CHECKS}
    levels = {name: verdict.level for name, verdict in found.items() if verdict.level != "ok"}
    unknown = ("names_of_keys", "upstream", "contacts", "reachability", "copies", "disk", "told")
    assert levels == {"daemon": "problem", **dict.fromkeys(unknown, "cannot tell")}
    lines = lines_of(list(found.values()))
    assert lines[0] == "1 problem"
    assert sum(line.startswith("unknown ") for line in lines) == 1, "one reason is told once"
    assert max(map(len, lines)) <= 80


def test_what_is_fine_is_told_in_a_word() -> None:
    assert lines_of([Finding("disk", "ok", "many MiB"), Finding("clock", "ok")]) == [
        "no problem",
        "fine      disk, clock",
    ]
    verdict = Finding("disk", "problem", "a cause", "a remedy", "p2pdns " + "x" * 90)
    assert lines_of([Finding("clock", "ok"), verdict]) == [
        "1 problem",
        "",
        "problem   disk: a cause",
        "  remedy  a remedy",
        f"  type    {verdict.command}",
        "",
        "fine      clock",
    ]


@pytest.mark.parametrize(
    ("about", "check"),
    [
        ("clock", checks.clock),
        ("contacts", checks.contacts),
        ("copies", checks.copies),
        ("state", checks.disk),
        ("configuration", checks.told),
        ("block", checks.told),
    ],
)
def test_what_the_daemon_says_itself_is_a_problem_here_too(tmp_path: Path, about: str, check: Any) -> None:
    verdict = check(machine(tmp_path, facts=problem(about)))
    assert (verdict.level, verdict.cause) == ("problem", "a cause")


# systemd-resolved


def test_a_resolved_that_nobody_asks_is_no_matter(tmp_path: Path) -> None:
    files = {"etc/resolv.conf": "nameserver 127.0.0.1\n", ETC: "DNSSEC=yes\n"}
    assert checks.resolved(machine(tmp_path, files)).level == "ok"
    # nss-resolve asks it whatever resolv.conf says.
    files["etc/nsswitch.conf"] = "hosts: files resolve [!UNAVAIL=return] dns\n"
    assert checks.resolved(machine(tmp_path, files)).level == "problem"


@pytest.mark.parametrize(
    ("files", "level"),
    [
        ({}, "cannot tell"),
        ({ETC: "[Resolve]\n#DNSSEC=yes\n"}, "cannot tell"),
        ({ETC: "[Resolve]\nDNSSEC=yes\n"}, "problem"),
        ({ETC: "[Resolve]\nDNSSEC = allow-downgrade\n"}, "problem"),
        ({ETC: "DNSSEC=yes\n", f"{ETC}.d/a.conf": "DNSSEC=no\n"}, "ok"),
        ({f"{ETC}.d/a.conf": "DNSSEC=no\n", f"{LIB}.d/b.conf": "DNSSEC=yes\n"}, "problem"),
        ({f"{ETC}.d/a.conf": "DNSSEC=no\n", f"{LIB}.d/a.conf": "DNSSEC=yes\n"}, "ok"),
    ],
)
def test_the_files_of_resolved_are_read_in_its_own_order(tmp_path: Path, files: dict[str, str], level: str) -> None:
    assert checks.resolved(machine(tmp_path, {"etc/resolv.conf": STUB, **files})).level == level


def test_a_negative_trust_anchor_leaves_a_warning_for_keys_alone(tmp_path: Path) -> None:
    files = {"etc/resolv.conf": STUB, ETC: "DNSSEC=yes\n"}
    anchor = "etc/dnssec-trust-anchors.d/p2pdns.negative"
    assert checks.resolved(machine(tmp_path, {**files, anchor: "p2p.alt\n"})).level == "problem"
    verdict = checks.resolved(machine(tmp_path, {**files, anchor: "p2p.alt\np2pdns.internal\n"}))
    assert verdict.level == "warning"


def test_what_resolvectl_says_wins_over_the_files(tmp_path: Path) -> None:
    files = {"etc/resolv.conf": STUB, ETC: "DNSSEC=yes\n"}
    said = {"resolvectl dnssec": "Global: no\nLink 2 (eth0): no\n"}
    assert checks.resolved(machine(tmp_path, files, programs=said)).level == "ok"


@pytest.mark.parametrize(
    ("dns", "domain", "level"),
    [
        ("Global: 127.0.0.1:5300\nLink 2 (eth0): 192.0.2.1", "Global: ~.\nLink 2 (eth0):", "ok"),
        ("Global: 127.0.0.1:5300\nLink 2 (eth0): 192.0.2.1", "Global:\nLink 2 (eth0):", "problem"),
        ("Global: 127.0.0.1:5300\nLink 2 (eth0):", "Global:\nLink 2 (eth0):", "ok"),
        ("Global: 127.0.0.1:5300 192.0.2.1", "Global: ~.", "problem"),
        ("Global:\nLink 2 (eth0): 192.0.2.1", "Global:", "ok"),
    ],
)
def test_servers_that_resolved_asks_beside_the_daemon_are_told_of(
    tmp_path: Path, dns: str, domain: str, level: str
) -> None:
    said = {"resolvectl dns": dns, "resolvectl domain": domain}
    facts = {"dns_addresses": ["127.0.0.1:5300"]}
    made = machine(tmp_path, {"etc/resolv.conf": STUB}, facts, said)
    assert checks.second_nameserver(made).level == level


# Other checks


def test_only_addresses_of_this_machine_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(dnsclient, "ask", lambda name, rtype, server, **_: asked.append(server[0]))
    made = Machine({}, ("p2p.alt",), tmp_path)
    for host in ("192.0.2.1", "8.8.8.8", "2001:db8::1", "0.0.0.0", "224.0.0.1", "no address", ""):
        assert not is_here(host)
        assert made.leads_here(host) is False
    assert asked == []
    assert is_here("127.0.0.7")


def test_a_router_that_passes_questions_on_to_us_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"dns_addresses": ["127.0.0.1:5300"]}
    made = machine(tmp_path, {"etc/resolv.conf": "nameserver 192.0.2.1\n"}, facts)
    assert checks.port_53(made).level == "problem"
    monkeypatch.setattr(checks, "names_of_keys", lambda machine: Finding("getent", "ok"))
    assert checks.port_53(made).level == "ok"


def test_without_resolv_conf_programs_ask_nobody(tmp_path: Path) -> None:
    assert "cannot be read" in checks.port_53(machine(tmp_path)).cause
    made = machine(tmp_path, {"etc/resolv.conf": "# nothing\n"}, ours=("127.0.0.1",))
    assert checks.port_53(made).level == "ok", "then the C library asks this machine"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("hosts: files mdns4_minimal [NOTFOUND=return] dns\n", "ok"),
        ("hosts: files resolve\n", "ok"),
        ("passwd: files dns\n", "ok"),
        ("hosts: files # dns\n", "problem"),
        ("", "ok"),
    ],
)
def test_the_line_of_hosts_in_nsswitch_decides_whether_dns_is_asked(tmp_path: Path, text: str, level: str) -> None:
    assert checks.nsswitch(machine(tmp_path, {"etc/nsswitch.conf": text})).level == level


def family(reason: str, *, is_closed: bool = True, seen: str | None = "203.0.113.9:6881") -> dict[str, Any]:
    """Return what the daemon tells of a family."""
    return {
        "address": "0.0.0.0:6881",
        "address_seen": seen,
        "read_only": is_closed,
        "read_only_reason": reason,
    }


def test_a_nat_that_lets_nobody_in_is_a_warning_with_the_port_to_open(tmp_path: Path) -> None:
    reason = "contacts see us at 203.0.113.9, but no query of a stranger has arrived there yet"
    facts = {"contacts": 9, "families": {"IPv4": family(reason)}}
    verdict = checks.reachability(machine(tmp_path, facts=facts))
    assert (verdict.level, verdict.remedy) == ("warning", "in the router, let UDP port 6881 through to this machine")
    facts["families"] = {"IPv4": family(reason), "IPv6": family("fine", is_closed=False)}
    assert checks.reachability(machine(tmp_path, facts=facts)).level == "ok"
    facts["families"] = {"IPv4": family("the settings say so")}
    assert checks.reachability(machine(tmp_path, facts=facts)).level == "ok"
    assert checks.reachability(machine(tmp_path, facts={"contacts": 0, "families": {}})).level == "cannot tell"


@pytest.mark.parametrize(("count", "level"), [(1, "warning"), (4, "warning"), (5, "ok")])
def test_few_contacts_are_a_warning(tmp_path: Path, count: int, level: str) -> None:
    assert checks.contacts(machine(tmp_path, facts={"contacts": count})).level == level


@pytest.mark.parametrize(("free_mib", "level"), [(15, "problem"), (16, "warning"), (127, "warning"), (128, "ok")])
def test_a_disk_that_fills_up_is_told_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, level: str
) -> None:
    class Usage:
        free = free_mib * checks.MEBIBYTE

    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage)
    assert checks.disk(machine(tmp_path, facts={"state": str(tmp_path)})).level == level


def test_a_state_directory_that_is_closed_to_us_cannot_be_judged(tmp_path: Path) -> None:
    assert checks.disk(machine(tmp_path, facts={"state": str(tmp_path / "gone")})).level == "cannot tell"


def test_the_command_exits_with_0_only_without_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2pdns.cli import doctor
    from p2pdns.cli.main import main

    words = ["doctor", "--json", "--state", str(tmp_path)]
    for level, status in (("ok", 0), ("warning", 0), ("cannot tell", 0), ("problem", 1)):
        verdict = Finding("one", level, "a", "b", "c")  # type: ignore[arg-type]
        monkeypatch.setattr(doctor, "CHECKS", (lambda machine, verdict=verdict: verdict,))
        assert main(words) == status
        assert f'"level": "{level}"' in capsys.readouterr().out


def test_in_json_the_problems_are_the_error_of_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2pdns.cli import doctor
    from p2pdns.cli.main import main

    said = [Finding("disk", "problem", "it is full", "make room", "df -h"), Finding("clock", "ok")]
    said.append(Finding("port 53", "problem", "it is shut", "open it", "ss"))
    monkeypatch.setattr(doctor, "CHECKS", [lambda machine, verdict=verdict: verdict for verdict in said])
    assert main(["doctor", "--json", "--state", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert (document["problems"], len(document["checks"]), document["exit"]) == (2, 3, 1)
    assert (document["error"], document["hint"]) == ("disk: it is full", "make room\ndf -h")
    assert document["mistakes"] == [
        {"error": "disk: it is full", "hint": "make room\ndf -h"},
        {"error": "port 53: it is shut", "hint": "open it\nss"},
    ]
    assert shown.err.splitlines()[0] == "p2pdns: error: disk: it is full"
    assert main(["doctor", "--state", str(tmp_path)]) == 1
    # In words they are told once.
    assert capsys.readouterr().err == ""
