"""Secrets of other programs: each form is read, and nothing that only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdns.errors import KeyFileError
from p2pdns.items.keys import SecretKey, write_zbase32
from p2pdns.items.seeds import SEED_FILE_BYTES_MAX, read_seed, seed_in

SEED = bytes(range(200, 232))
HEXADECIMAL = SEED.hex()
# What pkarr's example of a seed of zeros has for its public key.
ZEROS_KEY = write_zbase32(bytes.fromhex("3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"))


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (HEXADECIMAL.encode(), "64 hexadecimal digits"),
        (HEXADECIMAL.upper().encode() + b"\n", "64 hexadecimal digits"),
        (b" \t" + HEXADECIMAL.encode() + b"\r\n\n", "64 hexadecimal digits"),
        (write_zbase32(SEED).encode() + b"\n", "52 characters of z-base-32"),
        (write_zbase32(SEED).upper().encode(), "52 characters of z-base-32"),
        (SEED, "32 raw bytes"),
        (b"\n" + SEED[1:], "32 raw bytes"),
    ],
)
def test_each_form_is_read(data: bytes, form: str) -> None:
    found = read_seed(data, "file")
    assert found.form == form
    assert found.raw == (data if form == "32 raw bytes" else SEED)


@given(st.binary(min_size=32, max_size=32))
def test_all_forms_of_one_seed_are_one_key(seed: bytes) -> None:
    forms = [seed.hex().encode(), write_zbase32(seed).encode(), *([] if seed.isascii() else [seed])]
    assert {str(SecretKey.generate(read_seed(data, "file").raw).zone_key) for data in forms} == {
        str(SecretKey.generate(seed).zone_key)
    }


def test_a_seed_of_zeros_has_the_key_that_other_programs_give_it() -> None:
    assert str(SecretKey.generate(read_seed(b"00" * 32, "file").raw).zone_key) == ZEROS_KEY


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "0 bytes that are no secret key"),
        (HEXADECIMAL[:-1].encode(), "63 bytes that are no secret key"),
        (HEXADECIMAL.encode() * 2, "128 bytes that are no secret key"),
        (b"0x" + HEXADECIMAL.encode(), "66 bytes that are no secret key"),
        (b"l" * 52, "52 bytes that are no secret key"),
        # The bits past the last byte are not zero.
        (b"9" * 52, "52 bytes that are no secret key"),
        (SEED + b"\n", "33 bytes that are no secret key"),
        (SEED[:31], "31 bytes that are no secret key"),
        (HEXADECIMAL[:32].encode(), "32 characters of text"),
        (b"correct horse battery staple abc", "32 characters of text"),
        (b"-----BEGIN PRIVATE KEY-----\n", "a PEM file"),
        (b"zoo " * 23 + b"vote", "words, and no secret key"),
        (HEXADECIMAL.encode() + b" " * SEED_FILE_BYTES_MAX, "bytes that are no secret key"),
        ("٣".encode() * 64, "bytes that are no secret key"),
    ],
)
def test_anything_else_is_refused_with_its_size(data: bytes, what: str) -> None:
    assert seed_in(data) is None
    with pytest.raises(KeyFileError, match=what) as caught:
        read_seed(data, "file")
    assert caught.value.hint


@given(st.binary(max_size=80))
def test_no_error_and_no_form_shows_what_was_read(data: bytes) -> None:
    try:
        said = repr(read_seed(data, "file"))
    except KeyFileError as error:
        said = f"{error} {error.hint}"
    assert data.hex() not in said or len(data) < 4


def test_a_seed_is_not_shown_by_its_repr() -> None:
    assert HEXADECIMAL[:8] not in repr(read_seed(HEXADECIMAL.encode(), "file"))
