"""Zone keys: what is refused, how they read and write, how they verify; key files and their errors."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pdns.dns.name import Name
from p2pdns.errors import BadItem, FormatError, KeyFileError
from p2pdns.items import keys
from p2pdns.items.keys import (
    KEYS_REMEMBERED_MAX,
    SMALL_ORDER_Y,
    D,
    L,
    P,
    SecretKey,
    ZoneKey,
    needs_passphrase,
    read_zbase32,
    write_zbase32,
)
from p2pdns.naming import ZONE_KEY_ALPHABET, is_zone_key_label

SEEDS = st.binary(min_size=32, max_size=32)
SECRET = SecretKey.generate(bytes(range(32)))


def double(x: int, y: int) -> tuple[int, int]:
    """Return twice an affine point of the twisted Edwards curve."""
    t = D * x * x * y * y % P
    return 2 * x * y * pow(1 + t, -1, P) % P, (y * y + x * x) * pow(1 - t, -1, P) % P


def x_of(y: int) -> int | None:
    """Return some x with (x, y) on the curve, by the school method; None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    if square == 0:
        return 0
    if pow(square, (P - 1) // 2, P) != 1:
        return None
    x = pow(square, (P + 3) // 8, P)
    return x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P


@example(1, 1)
@example(P - 1, 1)
@given(st.integers(0, P - 1), st.integers(0, 1))
def test_point_check_agrees_with_eulers_criterion(y: int, sign: int) -> None:
    """The symbol says of every y what the root itself would."""
    x = x_of(y)
    assert keys.is_on_curve(y, sign) == (x is not None and not (x == 0 and sign))


def test_small_order_is_what_three_doublings_bring_to_the_identity() -> None:
    """The table is complete and has nothing else: order divides 8, and there are eight such points."""
    points = []
    for y in SMALL_ORDER_Y:
        x = x_of(y)
        assert x is not None
        points += [(root, y) for root in {x, -x % P}]
    assert len(points) == 8
    for point in points:
        x, y = point
        for _ in range(3):
            x, y = double(x, y)
        assert (x, y) == (0, 1)


@given(SEEDS)
@settings(max_examples=50)
def test_honest_keys_survive_text_in_any_letter_case(seed: bytes) -> None:
    """Bytes, lower text, upper text, label and apex are one key."""
    key = SecretKey.generate(seed).zone_key
    assert len(str(key)) == 52
    assert str(key) == str(key).lower()
    assert is_zone_key_label(str(key).encode())
    assert ZoneKey.read(str(key).upper()) == ZoneKey.read(str(key)) == ZoneKey.verified(key.raw) == key
    assert ZoneKey.of_label(str(key).title().encode()) == key
    assert key.apex == Name.read(str(key).upper())
    assert hash(ZoneKey(key.raw)) == hash(key)


@given(st.binary(max_size=40))
def test_any_bytes_end_in_a_key_or_a_bad_item(raw: bytes) -> None:
    """Nothing of the library gets past the wall."""
    with contextlib.suppress(BadItem):
        assert ZoneKey.verified(raw).raw == raw


@given(st.text(max_size=60))
def test_any_text_ends_in_a_key_or_a_format_error(text: str) -> None:
    """Labels come from strangers too."""
    with pytest.raises(FormatError):
        ZoneKey.read(text)


@given(st.binary(min_size=52, max_size=52))
def test_any_label_ends_in_a_key_or_a_format_error(label: bytes) -> None:
    """Bytes outside ASCII are a wrong character, not a codec error."""
    with contextlib.suppress(FormatError):
        assert str(ZoneKey.of_label(label)).encode() == label.lower()


def test_key_cannot_be_made_around_the_check() -> None:
    """The plain constructor verifies as well: an object that exists is valid."""
    with pytest.raises(BadItem, match="key-small-order"):
        ZoneKey((1).to_bytes(32, "little"))


def test_remembered_keys_are_bounded() -> None:
    """Strangers can send any number of keys."""
    for number in range(KEYS_REMEMBERED_MAX + 50):
        keys._fault_of((P - 1 - number).to_bytes(32, "little"))
    assert keys._fault_of.cache_info().currsize <= KEYS_REMEMBERED_MAX


@given(st.binary(max_size=70))
def test_zbase32_round_trip_in_any_case(raw: bytes) -> None:
    """Writer and reader agree on every length."""
    text = write_zbase32(raw)
    assert len(text) == -(-len(raw) * 8 // 5)
    assert read_zbase32(text) == read_zbase32(text.upper()) == raw


@given(st.text(alphabet=ZONE_KEY_ALPHABET, max_size=60))
def test_zbase32_text_has_one_form(text: str) -> None:
    """What reads writes itself again, letter for letter."""
    with contextlib.suppress(FormatError):
        assert write_zbase32(read_zbase32(text)) == text


@given(SEEDS, st.binary(max_size=100), st.integers(0, 511))
@settings(max_examples=60)
def test_signature_holds_until_a_bit_is_flipped(seed: bytes, message: bytes, bit: int) -> None:
    """A signature has no slack, message and signature alike."""
    secret = SecretKey.generate(seed)
    signature = secret.sign(message)
    assert secret.zone_key.verify(signature, message)
    flipped = (int.from_bytes(signature) ^ 1 << bit).to_bytes(64)
    assert not secret.zone_key.verify(flipped, message)
    assert not secret.zone_key.verify(signature, message + b"\0")


@given(SEEDS, st.binary(max_size=20))
@settings(max_examples=30)
def test_strict_verification_refuses_the_twin(seed: bytes, message: bytes) -> None:
    """S + L solves the same equation; `verify` takes the canonical form only."""
    secret = SecretKey.generate(seed)
    signature = secret.sign(message)
    twin = signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")
    assert not secret.zone_key.verify(twin, message)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 63, 65, 128])
def test_signature_of_another_size_is_false_not_an_exception(size: int) -> None:
    """A caller asks a yes-or-no question."""
    assert SECRET.zone_key.verify(bytes(size), b"") is False


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_key_file_round_trip(passphrase: bytes | None) -> None:
    """What is written reads back as the same key, with and without a passphrase."""
    pem = SECRET.write(passphrase)
    assert needs_passphrase(pem) == (passphrase is not None)
    again = SecretKey.read(pem, passphrase, "a.key")
    assert again.zone_key == SECRET.zone_key
    assert again.sign(b"x") == SECRET.sign(b"x")


def test_passphrase_for_an_open_key_is_ignored() -> None:
    """One --passphrase-file may serve several keys."""
    assert SecretKey.read(SECRET.write(None), b"unneeded", "a.key").zone_key == SECRET.zone_key


def pkcs8(private: PrivateKeyTypes) -> bytes:
    """Return any private key as PKCS#8 PEM."""
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def damaged(pem: bytes) -> bytes:
    """Return the PEM with its body cut."""
    lines = pem.splitlines(keepends=True)
    return lines[0] + lines[1][:20] + b"\n" + lines[-1]


BAD_FILES: dict[str, tuple[Callable[[], bytes], bytes | None, str]] = {
    "empty": (lambda: b"", None, "not a PEM key file"),
    "binary": (lambda: bytes(range(256)), None, "not a PEM key file"),
    "zone file": (lambda: b"@ A 192.0.2.1\n", None, "not a PEM key file"),
    "raw seed": (lambda: bytes(32), None, "not a PEM key file"),
    "certificate": (lambda: b"-----BEGIN CERTIFICATE-----\nMA==\n", None, "not a PEM key file"),
    "huge": (lambda: b"x" * 70_000, None, "70000 bytes, a key file has at most 65536"),
    "no passphrase": (lambda: SECRET.write(b"horse"), None, "the key needs a passphrase"),
    "empty passphrase": (lambda: SECRET.write(b"horse"), b"", "the key needs a passphrase"),
    "wrong passphrase": (lambda: SECRET.write(b"horse"), b"house", "wrong passphrase, or a damaged file"),
    "damaged": (lambda: damaged(SECRET.write(None)), None, "a damaged PKCS#8 PEM file"),
    "damaged, encrypted": (lambda: damaged(SECRET.write(b"horse")), b"horse", "wrong passphrase"),
    "RSA": (lambda: pkcs8(rsa.generate_private_key(65537, 1024)), None, "the key is not Ed25519"),
    "P-256": (lambda: pkcs8(ec.generate_private_key(ec.SECP256R1())), None, "the key is not Ed25519"),
    "X25519": (lambda: pkcs8(x25519.X25519PrivateKey.generate()), None, "the key is not Ed25519"),
    "Ed448": (lambda: pkcs8(ed448.Ed448PrivateKey.generate()), None, "the key is not Ed25519"),
    "EC, traditional": (
        lambda: ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        ),
        None,
        "the key is not Ed25519",
    ),
    "OpenSSH": (
        lambda: ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        ),
        None,
        "an OpenSSH key, not PKCS#8",
    ),
    "public": (
        lambda: (
            ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        ),
        None,
        "a public key, the secret one is needed",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_key_file_says_what_and_where_and_shows_no_secret(case: str) -> None:
    """One line, the place in front, and nothing of the file or the passphrase in it."""
    make, passphrase, expected = BAD_FILES[case]
    pem = make()
    with pytest.raises(KeyFileError) as caught:
        SecretKey.read(pem, passphrase, "alice.key")
    said = str(caught.value)
    assert said.startswith("alice.key: " + expected)
    assert "\n" not in said
    # Nothing of what the library said, which may quote its input, is left to be logged.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    shown = f"{said} {caught.value.hint} {caught.value!r}"
    assert "horse" not in shown
    assert "house" not in shown
    for line in pem.decode("latin-1").splitlines():
        assert len(line) < 20 or line.startswith("-----") or line not in shown


@given(st.binary(max_size=200), st.none() | st.binary(min_size=1, max_size=10))
def test_any_file_ends_in_a_key_file_error(body: bytes, passphrase: bytes | None) -> None:
    """Armour with rubbish inside is a damaged file, never a traceback of the library."""
    for kind in (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"EC PRIVATE KEY"):
        pem = b"-----BEGIN " + kind + b"-----\n" + body + b"\n-----END " + kind + b"-----\n"
        with pytest.raises(KeyFileError):
            SecretKey.read(pem, passphrase, "a.key")
    with pytest.raises(KeyFileError):
        SecretKey.read(body, passphrase, "a.key")


def test_empty_passphrase_does_not_write_an_open_key() -> None:
    """An empty prompt must not pass for protection."""
    with pytest.raises(KeyFileError, match="the passphrase is empty"):
        SECRET.write(b"")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_entropy_of_another_size_is_refused(size: int) -> None:
    """Sixteen bytes would be stretched, and would look just as good."""
    with pytest.raises(KeyFileError, match=f"{size} bytes of entropy"):
        SecretKey.generate(bytes(size))


def test_secret_key_shows_its_public_half_only() -> None:
    """Neither repr nor str nor format has a byte of the seed."""
    seed = bytes(range(32))
    for text in (repr(SECRET), str(SECRET), f"{SECRET}", repr([SECRET])):
        assert str(SECRET.zone_key) in text
        assert seed.hex() not in text
        assert repr(seed) not in text


def test_secret_key_leaves_by_write_only() -> None:
    """Pickles and copies would carry it into places that nobody guards."""
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not serialised"):
            leave(SECRET)


# The comment of a key file


COMMENTED = SecretKey.generate(bytes(range(32)))
OTHER = SecretKey.generate(bytes(32))


@pytest.mark.parametrize("passphrase", [None, b"horse"])
def test_a_key_file_begins_with_the_public_key_and_reads_back(passphrase: bytes | None) -> None:
    written = COMMENTED.key_file(passphrase)
    assert written.splitlines()[0].decode() == f"# public key: {COMMENTED.zone_key}"
    assert SecretKey.read(written, passphrase, "a.key").zone_key == COMMENTED.zone_key
    assert written.endswith(b"-----\n")


def test_a_file_without_a_comment_reads_as_ever() -> None:
    assert SecretKey.read(COMMENTED.write(None), None, "a.key").zone_key == COMMENTED.zone_key


def test_a_comment_with_the_line_ends_of_another_system_is_the_same_comment() -> None:
    written = COMMENTED.key_file(None).replace(b"\n", b"\r\n")
    assert SecretKey.read(written, None, "a.key").zone_key == COMMENTED.zone_key


@pytest.mark.parametrize(
    "line",
    [
        f"# public key: {OTHER.zone_key}",
        f"# public key: {str(COMMENTED.zone_key)[:-1]}",
        f"# public key: {str(COMMENTED.zone_key).upper()}",
        f"#public key: {COMMENTED.zone_key}",
        f"# Public-Key: {COMMENTED.zone_key}",
        f"# public key: {COMMENTED.zone_key} ",
        "# public key:",
    ],
)
@pytest.mark.parametrize("is_last", [False, True])
def test_a_comment_that_is_not_that_of_the_key_is_an_error_and_not_believed(line: str, is_last: bool) -> None:
    comment, pem = line.encode() + b"\n", COMMENTED.write(None)
    with pytest.raises(KeyFileError, match="is not that of the key in the file") as caught:
        SecretKey.read(pem + comment if is_last else comment + pem, None, "a.key")
    assert f"# public key: {COMMENTED.zone_key}" in str(caught.value.hint)
    assert pem.splitlines()[1].decode() not in f"{caught.value} {caught.value.hint}"


def test_two_comments_must_both_be_true() -> None:
    written = f"# public key: {OTHER.zone_key}\n".encode() + COMMENTED.key_file(None)
    with pytest.raises(KeyFileError):
        SecretKey.read(written, None, "a.key")


def test_another_comment_is_left_to_its_writer() -> None:
    written = b"# the laptop's\n" + COMMENTED.key_file(None)
    assert SecretKey.read(written, None, "a.key").zone_key == COMMENTED.zone_key
