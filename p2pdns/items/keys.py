"""Zone ids, zone keys and secret keys: Ed25519 points, z-base-32 text, key files.

Guarantees: a `ZoneKey` that exists is the canonical encoding of a curve point that is not of small order, so two
different keys never verify the same signature, and only the holder of the secret key can sign. A signature is accepted
in one form only. No text made here shows a secret. Does not know where a key file is or who may read it, and draws no
randomness: entropy is an argument.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from p2pdns.dns.name import Name
from p2pdns.errors import BadItem, FormatError, KeyFileError
from p2pdns.naming import ZONE_KEY_ALPHABET, ZONE_KEY_CHARACTERS

KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEED_BYTES = 32  # RFC 8032 derives scalar and prefix from it.
KEYS_REMEMBERED_MAX = 4096  # Keys whose check is remembered, 200 bytes each; checking a point takes 25 µs.
KEY_FILE_BYTES_MAX = 65_536  # A PKCS#8 file takes about 300; a file of this size is no key file.

PUBLIC_KEY_COMMENT = "# public key: "  # The first line of a key file, as age writes it.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P

# The y coordinates of the eight points whose order divides 8: orders 1, 2, 4, 4, and four of order 8.
# With such a key k·A takes at most eight values, so signatures for it can be made by anyone.
_Y_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER_Y = frozenset({0, 1, P - 1, _Y_OF_ORDER_8, P - _Y_OF_ORDER_8})

_Y_MASK = (1 << 255) - 1
_MAKE_ONE = 'make one that is with "p2pdns keygen -o FILE"'
_COMMENT_LIKE = re.compile(rb"^[ \t]*#[ \t]*public[ \t-]*key.*$", re.MULTILINE | re.IGNORECASE)
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # RFC 4648 §6; z-base-32 has other characters for the same values.
_TO_ZBASE32 = bytes.maketrans(_BASE32, ZONE_KEY_ALPHABET.encode())
_TO_BASE32 = bytes.maketrans(ZONE_KEY_ALPHABET.encode(), _BASE32)


def write_zbase32(raw: bytes) -> str:
    """Return the z-base-32 text, padded with zero bits on the right to a whole character."""
    return base64.b32encode(raw).rstrip(b"=").translate(_TO_ZBASE32).decode("ascii")


def read_zbase32(text: str) -> bytes:
    """Return the whole bytes that a z-base-32 text, in any letter case, stands for.

    Bits that are left over must be zero: otherwise one key would have sixteen names.
    """
    if not text.isascii():
        # `lower` turns some other characters into ASCII: U+212A (kelvin) becomes a k, a second name for one key.
        raise FormatError("zbase32-character", "only ASCII characters stand for anything")
    lower = text.lower()
    for character in lower:
        if character not in ZONE_KEY_ALPHABET:
            raise FormatError("zbase32-character", f"{character!r} is not one of {ZONE_KEY_ALPHABET}")
    padded = lower.encode("ascii").translate(_TO_BASE32) + b"=" * (-len(text) % 8)
    try:
        raw = base64.b32decode(padded)
    except binascii.Error:
        raw = b""
    if write_zbase32(raw) != lower:
        raise FormatError("zbase32-not-canonical", "the bits past the last whole byte are not zero")
    return raw


def is_on_curve(y: int, sign: int) -> bool:
    """Return whether a point with this y and this lowest bit of x exists (RFC 8032 §5.1.3).

    x² is a fraction, which is a square where the product of its two parts is a square. The Jacobi symbol tells that in
    a quarter of the time that the root takes, and every look-up of a name begins with this check.
    """
    numerator = (y * y - 1) % P
    if not numerator:
        return not sign
    # The denominator is never 0, since -1/d is no square.
    return _jacobi(numerator * (D * y * y + 1) % P, P) == 1


def _jacobi(number: int, modulus: int) -> int:
    """Return the Jacobi symbol by the law of quadratic reciprocity; of a prime modulus, 1 for squares and 0 for 0."""
    symbol = 1
    while number:
        twos = (number & -number).bit_length() - 1
        number >>= twos
        if twos & 1 and modulus & 7 in (3, 5):
            symbol = -symbol
        if number & modulus & 3 == 3:
            symbol = -symbol
        number, modulus = modulus % number, number
    return symbol if modulus == 1 else 0


def _encodes_small_order(raw: bytes) -> bool:
    """Return whether 32 bytes are an encoding, canonical or not, of a point of small order."""
    return (int.from_bytes(raw, "little") & _Y_MASK) % P in SMALL_ORDER_Y


# OpenSSL, and so `cryptography`, accepts all the keys that are refused here.
@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def _fault_of(raw: bytes) -> tuple[str, str] | None:
    y = int.from_bytes(raw, "little") & _Y_MASK
    if y >= P:
        return "key-not-canonical", "its y coordinate is not below 2^255 - 19"
    if _encodes_small_order(raw):
        return "key-small-order", "anyone could sign for it"
    if not is_on_curve(y, raw[31] >> 7):
        return "key-not-a-point", "no point of the curve has these coordinates"
    return None


@dataclass(frozen=True)
class ZoneKey:
    """The public key that names a zone. Keys with equal bytes are equal.

    >>> str(ZoneKey.read("8PINXXGQS41N4AIDIDENW5APQP1URFMZDZTR8JT4ABRKDN435EWO"))
    '8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo'
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise BadItem("key-size", f"{len(self.raw)} bytes, {KEY_BYTES} expected")
        if (fault := _fault_of(self.raw)) is not None:
            raise BadItem(*fault)

    @classmethod
    def verified(cls, raw: bytes) -> ZoneKey:
        """Return the key of these 32 bytes; BadItem where they are no key."""
        return cls(bytes(raw))

    @classmethod
    def read(cls, text: str) -> ZoneKey:
        """Return the key that 52 characters of z-base-32 stand for, in any letter case."""
        if len(text) != ZONE_KEY_CHARACTERS:
            raise FormatError("key-length", f"{len(text)} characters, {ZONE_KEY_CHARACTERS} expected")
        raw = read_zbase32(text)
        try:
            return cls(raw)
        except BadItem as error:
            raise FormatError(error.reason, error.detail) from None

    @classmethod
    def of_label(cls, label: bytes) -> ZoneKey:
        """Return the key that a label of a name stands for."""
        # Latin-1 maps every byte to a character, so the alphabet refuses a stray byte, and no codec does.
        return cls.read(label.decode("latin-1"))

    @cached_property
    def text(self) -> str:
        return write_zbase32(self.raw)

    @cached_property
    def apex(self) -> Name:
        return Name.of(self.text.encode("ascii"))

    @cached_property
    def _public(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether the signature is good, by strict rules, which accept each one in one form only.

        S must be below L. R must not be of small order, canonical or not: a signer whose nonce is zero reveals its
        secret key, and verifiers differ on the rest. The equation is checked without cofactor: OpenSSL compares the
        encoding of S·B - k·A with R byte for byte, so a non-canonical R never passes.
        """
        if len(signature) != SIGNATURE_BYTES or int.from_bytes(signature[32:], "little") >= L:
            return False
        if _encodes_small_order(signature[:32]):
            return False
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"ZoneKey({self.text})"


@dataclass(frozen=True, slots=True)
class ZoneId:
    """The id of a zone, whatever signs it and however many items it has. Ids of the same name are equal.

    Today the id of a zone is the key that signs it. Only `p2pdns.overlay.parts` relies on that.

    >>> str(ZoneId.read("8PINXXGQS41N4AIDIDENW5APQP1URFMZDZTR8JT4ABRKDN435EWO"))
    '8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo'
    """

    signed_by: ZoneKey

    @classmethod
    def of_key(cls, key: ZoneKey) -> ZoneId:
        """Return the id of the zone that a key signs."""
        return cls(key)

    @classmethod
    def verified(cls, raw: bytes) -> ZoneId:
        """Return the id of these 32 bytes; BadItem where they are no id."""
        return cls(ZoneKey.verified(raw))

    @classmethod
    def read(cls, text: str) -> ZoneId:
        """Return the id that 52 characters of z-base-32 stand for, in any letter case."""
        return cls(ZoneKey.read(text))

    @classmethod
    def of_label(cls, label: bytes) -> ZoneId:
        """Return the id that a label of a name stands for."""
        return cls(ZoneKey.of_label(label))

    @property
    def raw(self) -> bytes:
        return self.signed_by.raw

    @property
    def apex(self) -> Name:
        return self.signed_by.apex

    def __str__(self) -> str:
        return self.signed_by.text

    def __repr__(self) -> str:
        return f"ZoneId({self.signed_by.text})"


class SecretKey:
    """The secret half of a zone key. It signs, and makes a key file or the words for paper; nothing else shows it."""

    __slots__ = ("_private", "zone_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.zone_key = ZoneKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def generate(cls, entropy: bytes) -> SecretKey:
        """Return the key made from 32 random bytes; the same bytes give the same key."""
        if len(entropy) != SEED_BYTES:
            raise KeyFileError(f"{len(entropy)} bytes of entropy, {SEED_BYTES} are needed")
        return cls(Ed25519PrivateKey.from_private_bytes(entropy))

    @classmethod
    def read(cls, pem: bytes, passphrase: bytes | None, path: str) -> SecretKey:
        """Return the key of a PKCS#8 PEM file; `path` is only for the error. An unneeded passphrase is ignored."""
        _check_armour(pem, path)
        is_encrypted = needs_passphrase(pem)
        if is_encrypted and not passphrase:
            hint = "give it at the prompt or with --passphrase-file FILE"
            raise KeyFileError("the key needs a passphrase", place=path, hint=hint)
        try:
            private = load_pem_private_key(pem, passphrase if is_encrypted else None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The message of the library may quote the input, so none of it is passed on.
            raise _unreadable(path, is_encrypted) from None
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFileError("the key is not Ed25519", place=path, hint=_MAKE_ONE)
        secret = cls(private)
        _check_comments(pem, secret.comment, path)
        return secret

    def write(self, passphrase: bytes | None) -> bytes:
        """Return the key as PKCS#8 PEM, encrypted where there is a passphrase."""
        if passphrase == b"":
            raise KeyFileError("the passphrase is empty", hint="leave it out to write the key without one")
        protection = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)

    @property
    def comment(self) -> str:
        """The first line of a key file. It names the public key, and `read` compares it with the key in the file."""
        return f"{PUBLIC_KEY_COMMENT}{self.zone_key}"

    def key_file(self, passphrase: bytes | None) -> bytes:
        """Return the content of a key file: the comment, then the key."""
        return f"{self.comment}\n".encode("ascii") + self.write(passphrase)

    def seed(self) -> bytes:
        """Return the 32 bytes that `generate` makes this key of; only `items/words` asks for them."""
        return self._private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SecretKey(of {self.zone_key})"

    def __reduce__(self) -> str | tuple[object, ...]:
        # Pickling and copying would take the secret elsewhere.
        raise TypeError("a secret key is not serialised but by write()")


def needs_passphrase(pem: bytes) -> bool:
    """Return whether the key file is encrypted."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem


def _check_armour(pem: bytes, path: str) -> None:
    """Refuse other files that people take for a key file, each with a hint."""
    what, hint = "not a PEM key file", 'a key file is what "p2pdns keygen -o FILE" writes (PKCS#8 PEM)'
    if len(pem) > KEY_FILE_BYTES_MAX:
        what, hint = f"{len(pem)} bytes, a key file has at most {KEY_FILE_BYTES_MAX}", "is it the right file?"
    elif needs_passphrase(pem) or b"-----BEGIN PRIVATE KEY-----" in pem:
        return
    elif b"-----BEGIN PUBLIC KEY-----" in pem:
        what = "a public key, the secret one is needed"
        hint = "name the file that was made with it; a public key signs nothing"
    elif b"-----BEGIN OPENSSH PRIVATE KEY-----" in pem:
        what, hint = "an OpenSSH key, not PKCS#8", 'make a zone key with "p2pdns keygen -o FILE"'
    elif b" PRIVATE KEY-----" in pem and b"-----BEGIN " in pem:
        what, hint = "the key is not Ed25519", _MAKE_ONE
    raise KeyFileError(what, place=path, hint=hint)


def _check_comments(pem: bytes, comment: str, path: str) -> None:
    """Refuse a file whose comment names another key: its owner would tell others the name of a wrong zone."""
    for line in _COMMENT_LIKE.findall(pem):
        if line.removesuffix(b"\r") != comment.encode("ascii"):
            what = f'the comment "{PUBLIC_KEY_COMMENT.strip()}" is not that of the key in the file'
            hint = f'make it "{comment}", or take the line out; was the file put together of two?'
            raise KeyFileError(what, place=path, hint=hint)


def _unreadable(path: str, is_encrypted: bool) -> KeyFileError:
    if is_encrypted:
        hint = "try the passphrase given when the key was made"
        return KeyFileError("wrong passphrase, or a damaged file", place=path, hint=hint)
    return KeyFileError("a damaged PKCS#8 PEM file", place=path, hint="restore the key from its backup")
