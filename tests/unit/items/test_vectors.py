"""The vectors of the overlay: BEP 44, pkarr, z-base-32, Ed25519 at its edges.

A vector's `bug` says what would let it come out otherwise. BEP 42's vectors are run where node ids are made, the
address table's in test_addresses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pdns.errors import BadItem, FormatError
from p2pdns.items.item import ImmutableItem, MutableItem, SignatureMemo, mutable_target, signing_buffer
from p2pdns.items.keys import SecretKey, ZoneKey, read_zbase32, write_zbase32

FOLDER = Path(__file__).parents[2] / "vectors"
OURS = ("addresses", "bep42", "bep44", "ed25519", "pkarr", "zbase32")


def vectors_of(file: str, part: str = "vectors") -> list[dict[str, Any]]:
    """Return one list of vectors of a file."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))[part]
    return found


def name_of(vector: dict[str, Any]) -> str:
    """Return what the test run calls a vector."""
    return str(vector.get("name") or vector.get("text") or vector.get("hex"))


@pytest.mark.parametrize("file", OURS)
def test_every_vector_names_the_bug_it_would_catch(file: str) -> None:
    """A vector that nobody can explain cannot be kept up."""
    content = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    assert content["about"]
    lists = [part for part in content.values() if isinstance(part, list)]
    assert lists
    for part in lists:
        assert part
        assert all(vector["bug"] for vector in part)


@pytest.mark.parametrize("vector", vectors_of("bep44"), ids=name_of)
def test_bep44_vector_verifies_and_has_its_target(vector: dict[str, Any]) -> None:
    """Key, salt, seq and value as the BEP prints them."""
    value, target = vector["value"].encode(), bytes.fromhex(vector["target"])
    if "key" not in vector:
        assert ImmutableItem.verified(target, value).value == value
        return
    salt, signature = vector["salt"].encode(), bytes.fromhex(vector["signature"])
    assert signing_buffer(vector["seq"], value, salt) == vector["buffer"].encode()
    item = MutableItem.verified(bytes.fromhex(vector["key"]), vector["seq"], value, signature, salt)
    assert item.target == target == mutable_target(bytes.fromhex(vector["key"]), salt)
    assert item.signature == signature


@pytest.mark.parametrize("vector", vectors_of("ed25519", "keys"), ids=name_of)
def test_key_vector_is_accepted_or_refused_for_its_reason(vector: dict[str, Any]) -> None:
    """Points and what only looks like them."""
    raw = bytes.fromhex(vector["key"])
    if vector["result"] == "valid":
        key = ZoneKey.verified(raw)
        assert ZoneKey.read(str(key)).raw == raw, vector["bug"]
        return
    with pytest.raises(BadItem) as caught:
        ZoneKey.verified(raw)
    assert caught.value.reason == vector["result"], vector["bug"]
    if len(raw) == 32:
        with pytest.raises(FormatError) as refused:
            ZoneKey.read(write_zbase32(raw))
        assert refused.value.reason == vector["result"], vector["bug"]


@pytest.mark.parametrize("with_memo", [False, True])
@pytest.mark.parametrize("vector", vectors_of("ed25519", "items"), ids=name_of)
def test_item_vector_is_kept_reduced_or_refused_for_its_reason(vector: dict[str, Any], with_memo: bool) -> None:
    """Signatures and what only looks like them; asked twice, so that a memo gets its chance to be wrong."""
    memo = SignatureMemo() if with_memo else None
    key, salt, value, signature = (bytes.fromhex(vector[part]) for part in ("key", "salt", "value", "signature"))
    for _ in range(2):
        if vector["result"] in ("valid", "reduced"):
            item = MutableItem.verified(key, vector["seq"], value, signature, salt, memo)
            assert item.signature.hex() == vector.get("canonical", vector["signature"]), vector["bug"]
            assert item.key.verify(item.signature, signing_buffer(vector["seq"], value, salt))
        else:
            with pytest.raises(BadItem) as caught:
                MutableItem.verified(key, vector["seq"], value, signature, salt, memo)
            assert caught.value.reason == vector["result"], vector["bug"]


@pytest.mark.parametrize("vector", vectors_of("zbase32", "good"), ids=name_of)
def test_zbase32_vector_reads_and_writes(vector: dict[str, Any]) -> None:
    """One case table drives writer and reader."""
    assert write_zbase32(bytes.fromhex(vector["hex"])) == vector["text"], vector["bug"]
    for text in (vector["text"], vector["text"].upper()):
        assert read_zbase32(text).hex() == vector["hex"], vector["bug"]


@pytest.mark.parametrize("vector", vectors_of("zbase32", "bad"), ids=name_of)
def test_zbase32_vector_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    """What has no meaning, or a second one."""
    with pytest.raises(FormatError) as caught:
        read_zbase32(vector["text"])
    assert caught.value.reason == vector["reason"], vector["bug"]


@pytest.mark.parametrize("vector", vectors_of("pkarr"), ids=name_of)
def test_pkarr_vector_verifies_and_is_what_the_seed_signs(vector: dict[str, Any]) -> None:
    """A signed packet of another implementation, byte for byte."""
    secret = SecretKey.generate(bytes.fromhex(vector["seed"]))
    value, signature = bytes.fromhex(vector["value"]), bytes.fromhex(vector["signature"])
    item = MutableItem.verified(ZoneKey.read(vector["zone_key"]), vector["seq"], value, signature)
    assert item.target.hex() == vector["target"]
    assert MutableItem.signed(secret, vector["seq"], value) == item
