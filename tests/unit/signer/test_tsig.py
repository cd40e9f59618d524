"""The keys of a TSIG file, and what is remembered of MACs."""

from __future__ import annotations

import base64

import pytest

from p2pdns.errors import KeyFileError, Unavailable
from p2pdns.signer.tsig import FUDGE_S, KEYS_MAX, ReplayMemory, read_keys

SECRET = base64.b64encode(b"\xfb" * 32).decode()
# As tsig-keygen of BIND 9.18 writes it.
FILE = f'key "update" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'


def test_a_file_of_tsig_keygen_is_read() -> None:
    (key,) = read_keys(FILE, "f").values()
    assert (str(key.name), str(key.algorithm), key.secret) == ("update.", "hmac-sha256.", b"\xfb" * 32)


def test_what_people_write_is_read_too() -> None:
    text = f"""
    // two keys
    key Alice.Example. {{ secret {SECRET}; algorithm HMAC-SHA512.; }}; # the first
    /* and
       another */ key bob {{ algorithm hmac-sha384; secret "{SECRET}"; }};
    """
    assert [str(name) for name in read_keys(text, "f")] == ["alice.example.", "bob."]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "f: no TSIG key"),
        ("# nothing\n", "f: no TSIG key"),
        ("zone {};", 'f:1: a statement begins with "key"'),
        ("key", "f:1: the file ends inside a key"),
        ("\nkey k", 'f:2: "{" is missing'),
        (
            FILE.replace("hmac-sha256", "hmac-md5.sig-alg.reg.int"),
            'f:2: no algorithm of TSIG "hmac-md5.sig-alg.reg.int" here',
        ),
        (FILE.replace("hmac-sha256", "hmac-sha1"), 'f:2: no algorithm of TSIG "hmac-sha1" here'),
        (FILE.replace("hmac-sha256", SECRET), "f:2: no algorithm of TSIG here"),
        (FILE.replace(SECRET, "not base64!"), "f:3: the secret is not base64"),
        (FILE.replace(SECRET, "gehe\u00efm" * 8), "f:3: the secret is not base64"),
        (FILE.replace(SECRET, "AAAA"), "f:3: a secret of 3 bytes, 16 are needed"),
        (FILE.replace("\talgorithm hmac-sha256;\n", ""), "f:3: the key has no algorithm"),
        (FILE.replace("secret", "sekret"), "f:3: a key has one algorithm and one secret"),
        (FILE.replace('";\n}', "\n}"), "f:3: the quotes are not closed"),
        (FILE.replace("};", "}"), 'f:4: ";" is missing'),
        (FILE.replace("update", "x" * 64), "f:4: the key has no name of the DNS"),
        (FILE + FILE, "f:5: a second key update"),
        ("-----BEGIN PRIVATE KEY-----", "f: a key file of a zone, and keys of TSIG are needed"),
    ],
)
def test_a_mistake_is_one_line_with_its_place_a_hint_and_no_secret(text: str, error: str) -> None:
    with pytest.raises(KeyFileError) as trouble:
        read_keys(text, "f")
    said = f"{trouble.value} {trouble.value.hint}"
    assert str(trouble.value).startswith(error), said
    assert trouble.value.hint
    assert SECRET not in said
    assert "not base64!" not in said


def test_a_file_has_so_many_keys_and_no_more() -> None:
    text = "".join(FILE.replace("update", f"k{number}") for number in range(KEYS_MAX))
    assert len(read_keys(text, "f")) == KEYS_MAX
    with pytest.raises(KeyFileError, match=f"more than {KEYS_MAX} keys"):
        read_keys(text + FILE, "f")


def test_a_mac_is_remembered_for_as_long_as_it_would_pass_and_no_longer() -> None:
    memory = ReplayMemory(macs_max=2)
    memory.remember(b"1", 1000, 1000)
    memory.remember(b"2", 1100, 1100)
    with pytest.raises(Unavailable):
        memory.remember(b"3", 1200, 1000 + FUDGE_S)
    assert (memory.has(b"1"), memory.has(b"3")) == (True, False)
    memory.remember(b"3", 1301, 1001 + FUDGE_S)
    assert [memory.has(mac) for mac in (b"1", b"2", b"3")] == [False, True, True]
    assert memory.recent(1400) == [(b"2", 1100), (b"3", 1301)]
    assert memory.recent(1401) == [(b"3", 1301)]
