"""The signed things that nodes keep for each other: mutable and immutable items (BEP 44).

Guarantees: an item that exists is verified; its signature is in the one canonical form, whichever form arrived;
of two items of one key, every reader prefers the same one. Does not know what the value means, where an item is
stored, or what time it is.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import InitVar, dataclass, replace

from p2pdns.errors import BadItem, FormatError, UsageError
from p2pdns.items.keys import KEY_BYTES, SIGNATURE_BYTES, L, SecretKey, ZoneKey

VALUE_BYTES_READ_MAX = 1000  # What pkarr allows, and what other nodes may therefore hold.
VALUE_BYTES_WRITE_DEFAULT = 940  # Leaves room for two contacts in a reply of 1232 bytes.
VALUE_BYTES_WRITE_MAX = 996  # BEP 44 limits the bencoded form to 1000; libtorrent refuses raw 997.
SALT_BYTES_MAX = 64  # BEP 44.

SEQ_RESERVED = 2**63 - 1  # The largest a peer can hold: nothing could ever supersede it, so nothing may carry it.
SEQ_PER_SECOND = 1_000_000  # A seq is a Unix time in microseconds.
FUTURE_S_MAX = 86_400  # A wrong time zone is not an attack; a wrong year is.
CLOCK_STEP_S_MAX = 60  # What a clock may be set back by without a word: whoever signs a day ahead finds the edge.
SIGN_AHEAD_S_MAX = 3_600  # What a publisher may sign ahead of its clock.
BUILD_UNIX = 1_735_689_600  # 2025-01-01, before any release; an earlier clock is wrong, and judges nobody's seq.
MEMO_COUNT_MAX = (
    8_192  # Verified signatures remembered: about 1 MB. The replies of one look-up bring the same item 20 times.
)

_VERIFIED = object()


def mutable_target(key_raw: bytes, salt: bytes = b"") -> bytes:
    """Return the 20 bytes under which nodes look for the mutable item of a key and a salt."""
    return hashlib.sha1(key_raw + salt, usedforsecurity=False).digest()


def signing_buffer(seq: int, value: bytes, salt: bytes = b"") -> bytes:
    """Return what is signed: salt (where there is one), seq and v as in a bencoded dictionary, without its ends.

    >>> signing_buffer(1, b"Hello World!")
    b'3:seqi1e1:v12:Hello World!'
    """
    return signing_buffer_of_form(seq, b"%d:%b" % (len(value), value), salt)


def signing_buffer_of_form(seq: int, form: bytes, salt: bytes = b"") -> bytes:
    """Return the same for a value in its bencoded form, which need not be a string: other programs sign lists too.

    >>> signing_buffer_of_form(1, b"li1ee", b"foo")
    b'4:salt3:foo3:seqi1e1:vli1ee'
    """
    head = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return head + b"3:seqi%de1:v%b" % (seq, form)


def reduced_signature(signature: bytes) -> bytes:
    """Return the signature with its S below L; BadItem where no lenient verifier would take it either.

    Anyone can add L to the S of a foreign signature, and widespread verifiers accept the twin. Who refuses the twin
    outright can be cut off from the item by whoever stores the twin first, so it is brought back instead.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BadItem("signature-size", f"{len(signature)} bytes, {SIGNATURE_BYTES} expected")
    if signature[63] & 0xE0:
        raise BadItem("signature-s-too-large", "one of the three top bits of S is set")
    s = int.from_bytes(signature[32:], "little")
    return signature if s < L else signature[:32] + (s % L).to_bytes(32, "little")


def next_seq(unix_now: float, last: int | None) -> int:
    """Return the seq of the next item: the time in microseconds, and more than the last one in any case."""
    seq = max(int(unix_now * SEQ_PER_SECOND), 0 if last is None else last + 1)
    if seq >= SEQ_RESERVED:
        raise UsageError(
            "the last seq of this key leaves none for a newer item", hint="make a new key and publish under that"
        )
    return seq


@dataclass(frozen=True, slots=True)
class Present:
    """What a reader knows of the time: its clock, and what it has adopted, which bounds the time from below.

    `newest_seq` is the highest seq that was adopted as a mark, of whatever key. When it was adopted, it was a day ahead
    of the present at most, so the present is at most a day behind it: a clock that says less is wrong. The bound never
    passes the latest time that the clock has shown, whatever is signed. `mark_seq` is the mark of the key in question:
    what was adopted once is judged by no clock again.
    """

    clock_unix: float
    newest_seq: int | None = None
    mark_seq: int | None = None

    @property
    def bound_unix(self) -> float:
        """The earliest time that it can be by what was adopted; 0 where nothing was."""
        if self.newest_seq is None:
            return 0.0
        return max(0.0, self.newest_seq / SEQ_PER_SECOND - FUTURE_S_MAX)

    @property
    def unix(self) -> float:
        """The time to judge by: that of the clock, and never one before the bound."""
        return max(self.clock_unix, self.bound_unix)

    @property
    def is_clock_behind(self) -> bool:
        """Whether the clock shows a time that is over for certain; a step of a time server's is no matter."""
        return self.clock_unix + CLOCK_STEP_S_MAX < self.bound_unix

    @property
    def is_believable(self) -> bool:
        """Whether it says enough to judge anybody's seq by."""
        return self.unix >= BUILD_UNIX

    def is_ahead(self, seq: int) -> bool:
        """Return whether a seq lies more than a day ahead: such a one becomes no mark and hides no lower one."""
        if self.mark_seq is not None and seq <= self.mark_seq:
            return False
        if not self.is_believable:
            return False
        # In whole numbers: a rounded bound could creep upwards, or leave out the very item that it comes of.
        latest = int((self.clock_unix + FUTURE_S_MAX) * SEQ_PER_SECOND)
        return seq > max(latest, self.newest_seq or 0)

    def prefers(self, item: MutableItem, other: MutableItem) -> bool:
        """Return whether readers prefer an item to another: any saner one to one from the future, else the newer."""
        is_ahead, is_other_ahead = self.is_ahead(item.seq), self.is_ahead(other.seq)
        return is_other_ahead if is_ahead != is_other_ahead else item.supersedes(other)

    def of_key(self, mark_seq: int | None) -> Present:
        """Return the same present, for the items of a key that has this mark."""
        return replace(self, mark_seq=mark_seq)


class SignatureMemo:
    """Signatures already found good, least recently used forgotten first.

    The digest covers everything a signature check covers and the signature too: a memo of values alone would accept
    an old value under a new seq, or anyone's signature for a value once seen.
    """

    def __init__(self, count_max: int = MEMO_COUNT_MAX) -> None:
        self.count_max = count_max
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    @staticmethod
    def digest_of(key_raw: bytes, salt: bytes, seq: int, value: bytes, signature: bytes) -> bytes:
        """Return the SHA-256 of the five, each of fixed size or behind its size, the value last."""
        head = key_raw + signature + seq.to_bytes(8) + len(salt).to_bytes(1) + salt
        return hashlib.sha256(head + value).digest()

    def has(self, digest: bytes) -> bool:
        """Return whether the digest is known, and keep it longer if so."""
        if digest not in self._digests:
            return False
        self._digests.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Remember a digest, and forget the one unused for longest where there are too many."""
        self._digests[digest] = None
        self._digests.move_to_end(digest)
        if len(self._digests) > self.count_max:
            self._digests.popitem(last=False)

    def __len__(self) -> int:
        """Return how many are remembered."""
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
    """A value that its key has signed. Made by `verified`, `signed` or `read_file`, and by nothing else."""

    key: ZoneKey
    seq: int
    value: bytes
    signature: bytes
    salt: bytes = b""
    made_by: InitVar[object] = None

    def __post_init__(self, made_by: object) -> None:
        """Refuse to exist without a check."""
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
        # Sizes first: a signature check costs more than any of these, and everything here comes from strangers.
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
        """Return the item that the holder of the secret key makes of a value."""
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
        """The 20 bytes under which nodes look for the item."""
        return mutable_target(self.key.raw, self.salt)

    @property
    def signed_at_unix(self) -> float:
        """The time the publisher claims, in Unix seconds."""
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
        """Refuse what no node would store."""
        if len(self.value) > VALUE_BYTES_READ_MAX:
            raise BadItem("value-too-large", f"{len(self.value)} bytes, {VALUE_BYTES_READ_MAX} allowed")

    @classmethod
    def verified(cls, target: bytes, value: bytes) -> ImmutableItem:
        """Return the item if the value is the one that belongs under the target."""
        item = cls(value)
        if item.target != target:
            raise BadItem("target-wrong", "the value hashes to another target")
        return item

    @property
    def target(self) -> bytes:
        """The SHA-1 of the bencoded value."""
        return hashlib.sha1(b"%d:%b" % (len(self.value), self.value), usedforsecurity=False).digest()
