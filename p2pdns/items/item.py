"""Items: the signed values that nodes keep for each other, mutable and immutable (BEP 44).

Guarantees: an item that exists is verified, and its signature has the one canonical form, whichever form arrived. Of
two items of one key, every reader prefers the same one. Does not know the content of the value, the nodes that hold
the item, or the time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import InitVar, dataclass, replace
from typing import TypeAlias

from p2pdns.errors import BadItem, FormatError, UsageError
from p2pdns.items.keys import KEY_BYTES, SIGNATURE_BYTES, L, SecretKey, ZoneKey

VALUE_BYTES_READ_MAX = 1000  # pkarr allows so many, so other nodes may hold them.
VALUE_BYTES_WRITE_DEFAULT = 940  # Leaves room for two contacts in a reply of 1232 bytes.
VALUE_BYTES_WRITE_MAX = 996  # BEP 44 limits the bencoded form to 1000; libtorrent refuses raw 997.
SALT_BYTES_MAX = 64  # BEP 44.

SEQ_RESERVED = 2**63 - 1  # The largest seq on the wire. No item could ever supersede it, so no item may carry it.
SEQ_PER_SECOND = 1_000_000  # A seq is a Unix time in microseconds.
FUTURE_S_MAX = 86_400  # A clock in a wrong time zone is no attack; a wrong year is.
# A clock may be behind by so much: time servers set clocks back, and an item signed a day ahead makes the bound exact.
CLOCK_STEP_S_MAX = 60
SIGN_AHEAD_S_MAX = 3_600  # For a publisher: how far the seq may be ahead of its clock.
BUILD_UNIX = 1_735_689_600  # 2025-01-01, before any release. A clock that shows less is wrong and judges no seq.
# Verified signatures remembered, about 1 MB of them: the replies of one look-up bring the same item 20 times.
MEMO_COUNT_MAX = 8_192

_VERIFIED = object()


def mutable_target(key_raw: bytes, salt: bytes = b"") -> bytes:
    """Return the 20 bytes under which nodes look for the mutable item of a key and a salt."""
    return hashlib.sha1(key_raw + salt, usedforsecurity=False).digest()


def signing_buffer(seq: int, value: bytes, salt: bytes = b"") -> bytes:
    """Return the bytes that are signed: salt (if any), seq and v as in a bencoded dictionary, without its ends.

    >>> signing_buffer(1, b"Hello World!")
    b'3:seqi1e1:v12:Hello World!'
    """
    return signing_buffer_of_form(seq, b"%d:%b" % (len(value), value), salt)


def signing_buffer_of_form(seq: int, form: bytes, salt: bytes = b"") -> bytes:
    """Return the bytes that are signed for a value in its bencoded form; other programs sign lists too.

    >>> signing_buffer_of_form(1, b"li1ee", b"foo")
    b'4:salt3:foo3:seqi1e1:vli1ee'
    """
    head = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return head + b"3:seqi%de1:v%b" % (seq, form)


def reduced_signature(signature: bytes) -> bytes:
    """Return the signature with its S below L; BadItem where even lenient verifiers would refuse it.

    Anyone can add L to the S of another's signature, and widespread verifiers accept both forms. A node could store
    the other form first and so hide the item from readers that refuse it. So the other form is reduced, not refused.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BadItem("signature-size", f"{len(signature)} bytes, {SIGNATURE_BYTES} expected")
    if signature[63] & 0xE0:
        raise BadItem("signature-s-too-large", "one of the three top bits of S is set")
    s = int.from_bytes(signature[32:], "little")
    return signature if s < L else signature[:32] + (s % L).to_bytes(32, "little")


def next_seq(unix_now: float, last: int | None) -> int:
    """Return the seq of the next item: the time in microseconds, and always more than the last seq."""
    seq = max(int(unix_now * SEQ_PER_SECOND), 0 if last is None else last + 1)
    if seq >= SEQ_RESERVED:
        what = "the last seq of this key leaves none for a newer item"
        raise UsageError(what, hint="make a new key and publish under that")
    return seq


@dataclass(frozen=True, slots=True)
class Present:
    """A reader's knowledge of the present: its clock, and a lower bound from the marks that it has adopted.

    `newest_seq` is the highest seq adopted as a mark, of any key. At its adoption it was at most a day ahead of the
    present, so the present is at least that seq less a day: a clock that shows less is wrong. The bound never passes
    the latest time that the clock has shown, whatever is signed. `mark_seq` is the mark of the key in question: a seq
    that was adopted once is not judged by the clock again.
    """

    clock_unix: float
    newest_seq: int | None = None
    mark_seq: int | None = None

    @property
    def bound_unix(self) -> float:
        """The lower bound of the present; 0 where no mark was adopted."""
        if self.newest_seq is None:
            return 0.0
        return max(0.0, self.newest_seq / SEQ_PER_SECOND - FUTURE_S_MAX)

    @property
    def unix(self) -> float:
        return max(self.clock_unix, self.bound_unix)

    @property
    def is_clock_behind(self) -> bool:
        return self.clock_unix + CLOCK_STEP_S_MAX < self.bound_unix

    @property
    def is_believable(self) -> bool:
        return self.unix >= BUILD_UNIX

    def is_ahead(self, seq: int) -> bool:
        """Return whether a seq is more than a day ahead: an item with such a seq becomes no mark and hides no other."""
        if not self.is_believable or (self.mark_seq is not None and seq <= self.mark_seq):
            return False
        # In whole numbers: a rounded bound could creep upwards, or refuse the very item that it comes from.
        latest = int((self.clock_unix + FUTURE_S_MAX) * SEQ_PER_SECOND)
        return seq > max(latest, self.newest_seq or 0)

    def prefers(self, item: MutableItem, other: MutableItem) -> bool:
        """Return whether readers prefer an item to another: one that is not ahead to one that is, else the newer."""
        is_ahead, is_other_ahead = self.is_ahead(item.seq), self.is_ahead(other.seq)
        return is_other_ahead if is_ahead != is_other_ahead else item.supersedes(other)

    def of_key(self, mark_seq: int | None) -> Present:
        """Return the present for the items of a key with this mark."""
        return replace(self, mark_seq=mark_seq)


class SignatureMemo:
    """Signatures that were found good; the least recently used is forgotten first.

    The digest covers every input of a signature check and the signature. A memo of values alone would accept an old
    value under a new seq, or anyone's signature for a known value.
    """

    def __init__(self, count_max: int = MEMO_COUNT_MAX) -> None:
        self.count_max = count_max
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    @staticmethod
    def digest_of(key_raw: bytes, salt: bytes, seq: int, value: bytes, signature: bytes) -> bytes:
        """Return the SHA-256 of these five: each has a fixed size or follows its size, but for the value, the last."""
        head = key_raw + signature + seq.to_bytes(8) + len(salt).to_bytes(1) + salt
        return hashlib.sha256(head + value).digest()

    def has(self, digest: bytes) -> bool:
        """Return whether the digest is known; it then counts as used."""
        if digest not in self._digests:
            return False
        self._digests.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Remember a digest; where there are too many, the least recently used is forgotten."""
        self._digests.pop(digest, None)
        self._digests[digest] = None
        if len(self._digests) > self.count_max:
            self._digests.popitem(last=False)

    def __len__(self) -> int:
        return len(self._digests)


def _check_sizes(seq: int, value: bytes, salt: bytes) -> None:
    if len(value) > VALUE_BYTES_READ_MAX:
        raise BadItem("value-too-large", f"{len(value)} bytes, {VALUE_BYTES_READ_MAX} allowed")
    if len(salt) > SALT_BYTES_MAX:
        raise BadItem("salt-too-large", f"{len(salt)} bytes, {SALT_BYTES_MAX} allowed")
    if not 0 <= seq <= SEQ_RESERVED:
        raise BadItem("seq-out-of-range", "a seq has 63 bits and no sign")
    if seq == SEQ_RESERVED:
        raise BadItem("seq-reserved", "nothing could supersede it")


@dataclass(frozen=True)
class MutableItem:
    """A value that its key has signed. Only `verified`, `signed` and `read_file` make one."""

    key: ZoneKey
    seq: int
    value: bytes
    signature: bytes
    salt: bytes = b""
    made_by: InitVar[object] = None

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _VERIFIED:
            raise TypeError("an item is made by MutableItem.verified or MutableItem.signed")

    @classmethod
    def verified(
        cls,
        key: bytes | ZoneKey,
        seq: int,
        value: bytes,
        signature: bytes,
        salt: bytes = b"",
        memo: SignatureMemo | None = None,
    ) -> MutableItem:
        """Return the item if its key has signed it; BadItem with the reason otherwise."""
        # Sizes first: all of this comes from strangers, and a signature check costs most.
        _check_sizes(seq, value, salt)
        signature = reduced_signature(signature)
        zone_key = key if isinstance(key, ZoneKey) else ZoneKey.verified(key)
        digest = SignatureMemo.digest_of(zone_key.raw, salt, seq, value, signature) if memo is not None else b""
        if memo is None or not memo.has(digest):
            if not zone_key.verify(signature, signing_buffer(seq, value, salt)):
                raise BadItem("signature-wrong", "the key did not sign this salt, seq and value")
            if memo is not None:
                memo.add(digest)
        return cls(zone_key, seq, value, signature, salt, _VERIFIED)

    @classmethod
    def signed(cls, secret: SecretKey, seq: int, value: bytes, salt: bytes = b"") -> MutableItem:
        """Return the item of a value, signed with the secret key."""
        if len(value) > VALUE_BYTES_WRITE_MAX:
            raise UsageError(f"the value has {len(value)} bytes, {VALUE_BYTES_WRITE_MAX} can be published")
        try:
            _check_sizes(seq, value, salt)
        except BadItem as error:
            raise UsageError(f"cannot sign: {error}") from None
        signature = secret.sign(signing_buffer(seq, value, salt))
        return cls(secret.zone_key, seq, value, signature, salt, _VERIFIED)

    @property
    def target(self) -> bytes:
        return mutable_target(self.key.raw, self.salt)

    @property
    def signed_at_unix(self) -> float:
        return self.seq / SEQ_PER_SECOND

    def supersedes(self, other: MutableItem) -> bool:
        """Return whether readers prefer this item: the higher seq, and of equal ones the larger value."""
        assert self.target == other.target, "items of different targets do not compare"
        return (self.seq, self.value) > (other.seq, other.value)

    def to_bytes(self) -> bytes:
        """Return the item file: key, signature, seq (8 bytes, big-endian), value. It has no place for a salt."""
        if self.salt:
            raise UsageError("an item with a salt cannot be written to an item file")
        return self.key.raw + self.signature + self.seq.to_bytes(8) + self.value

    @classmethod
    def read_file(cls, data: bytes) -> MutableItem:
        """Return the verified item of an item file's bytes; FormatError or BadItem."""
        head = KEY_BYTES + SIGNATURE_BYTES + 8
        if len(data) < head:
            raise FormatError("item-file-too-short", f"{len(data)} bytes, at least {head} expected")
        seq = int.from_bytes(data[KEY_BYTES + SIGNATURE_BYTES : head])
        return cls.verified(data[:KEY_BYTES], seq, data[head:], data[KEY_BYTES : KEY_BYTES + SIGNATURE_BYTES])


@dataclass(frozen=True)
class ImmutableItem:
    """A value that is found under its own hash."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) > VALUE_BYTES_READ_MAX:
            raise BadItem("value-too-large", f"{len(self.value)} bytes, {VALUE_BYTES_READ_MAX} allowed")

    @classmethod
    def verified(cls, target: bytes, value: bytes) -> ImmutableItem:
        """Return the item if the value hashes to the target; BadItem otherwise."""
        item = cls(value)
        if item.target != target:
            raise BadItem("target-wrong", "the value hashes to another target")
        return item

    @property
    def target(self) -> bytes:
        """The SHA-1 of the bencoded value."""
        return hashlib.sha1(b"%d:%b" % (len(self.value), self.value), usedforsecurity=False).digest()


Item: TypeAlias = MutableItem | ImmutableItem
