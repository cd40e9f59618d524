"""The errors of p2pdns, sorted by whose fault they are.

Errors that the user can mend: `UsageError`, `ConfigError`, `ZoneFileError`, `KeyFileError`, `Unavailable`. They are
printed as one line that says what and where, with a hint on a line of its own. Errors that a stranger has caused:
`StrangerError` and its subclasses. They are counted by reason and dropped, and never end a process.

Guarantees: no message has a secret in it; a message quotes one word of a user's file at most. Does not know how a
message is printed.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from typing import TypeVar

MISTAKES_MAX = 50  # Mistakes of one file shown at once; more would scroll away, and the first ones explain many others.
LIKENESS_MIN = 0.6  # The ratio of difflib; two letters of five may be wrong.
TOKEN_CHARACTERS_MAX = 24  # A word of this length is shown whole; a secret key has 43 characters or more in any form.
TOKEN_CHARACTERS_SHOWN = 12  # Of a longer word: enough to find it, and less than a quarter of a secret key.
KEY_FILE_MARK = "-----BEGIN"
KEY_FILE_TEXT = "it has -----BEGIN in it, as a key file has, so none of its lines is shown"
KEY_FILE_HINT = "is it the right file? a secret key belongs behind -k and nowhere else"
_LONG_TOKEN = re.compile(rf"[A-Za-z0-9+/=_-]{{{TOKEN_CHARACTERS_MAX + 1},}}")
# A zone key is public, and the user needs all of it.
_ZONE_KEY = re.compile("[ybndrfg8ejkmcpqxot1uwisza345h769]{52}")

_NOT_YOURS = "run as the user it belongs to, or change its mode (ls -ld shows both)"
_NO_ROOM = "make room, or choose another place"
_NEXT_ACTIONS = {
    errno.ENOENT: "check the name; without a leading / it is looked for in the current folder",
    errno.EACCES: _NOT_YOURS,
    errno.EPERM: _NOT_YOURS,
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: _NO_ROOM,
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the whole system has too many open files",
}


def abridged(text: str) -> str:
    """Return the text with every word cut that could be a large part of a secret key.

    >>> abridged("cannot read MC4CAQAwBQYDK2VwBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq")
    'cannot read MC4CAQAwBQYD…'
    """
    return _LONG_TOKEN.sub(_abridged_token, text)


def _abridged_token(match: re.Match[str]) -> str:
    token = match[0]
    # Long words of messages and paths have neither; base64 has capitals and hexadecimal has digits.
    is_plain = not any(character.isdigit() or character.isupper() for character in token)
    return token if is_plain or _ZONE_KEY.fullmatch(token) else f"{token[:TOKEN_CHARACTERS_SHOWN]}…"


def first_token(text: str) -> str:
    """Return the part of a faulty line that an error may show: its first word, abridged.

    >>> first_token("  www A 192.0.2.1 junk"), first_token("x" * 99)
    ('www …', 'xxxxxxxxxxxxxxxxxxxxxxxx…')
    """
    word, *rest = text.split(maxsplit=1) or [""]
    shown = abridged(word)
    shown = shown if len(shown) <= TOKEN_CHARACTERS_MAX else f"{shown[:TOKEN_CHARACTERS_MAX]}…"
    return f"{shown} …" if rest else shown


def counted(count: int, thing: str) -> str:
    """Return a count of things.

    >>> counted(1, "zone"), counted(1_200, "zone")
    ('1 zone', '1,200 zones')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def words_of(trouble: Exception) -> str:
    """Return the system's words for an error, in lower case as all messages are.

    >>> words_of(OSError(errno.ENOSPC, "No space left on device")), words_of(OSError("Timed out"))
    ('no space left on device', 'timed out')
    """
    return (getattr(trouble, "strerror", None) or str(trouble) or type(trouble).__name__).lower()


def hint_of(trouble: OSError) -> str:
    """Return the hint for a user whose file the system has refused."""
    return _NEXT_ACTIONS.get(trouble.errno or 0, "that is all the system says; its own log may say more")


def did_you_mean(
    word: str, known: Iterable[str], *, shown: str = '"{}"', likeness_min: float = LIKENESS_MIN
) -> str | None:
    """Return the hint that names the nearest known word, put into `shown`, or None when no word is near.

    >>> did_you_mean("pubish", ["publish", "status"]), did_you_mean("alise", ["alice"], shown="the petname {}")
    ('did you mean "publish"?', 'did you mean the petname alice?')
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness_min)
    return f"did you mean {shown.format(near[0])}?" if near else None


class P2pdnsError(Exception):
    """An error with its place and a hint.

    `what` is lower case without a full stop; `place` is a file, address or setting; `hint` is a sentence with the fix.
    """

    exit_code = 1
    line: int | None = None  # The line in the file of `place`, where it is known.

    def __init__(self, what: str, *, place: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.place = place
        self.hint = hint
        self._others: tuple[P2pdnsError, ...] = ()
        super().__init__(what)

    @property
    def mistakes(self) -> tuple[P2pdnsError, ...]:
        """This error and all others that `together` has joined to it, in the order of their lines."""
        return (self, *self._others)

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


class UsageError(P2pdnsError):
    """A wrong command line."""

    exit_code = 2


class ConfigError(P2pdnsError):
    """A configuration file or value that cannot be used."""

    exit_code = 2

    def __init__(
        self, what: str, *, place: str | None = None, line: int | None = None, hint: str | None = None
    ) -> None:
        self.line = line
        super().__init__(abridged(what), place=place, hint=hint and abridged(hint))


class ZoneFileError(P2pdnsError):
    """A zone file that cannot become a zone; `place` is `path:line` where a line is known."""

    def __init__(self, what: str, *, path: str, line: int | None = None, hint: str | None = None) -> None:
        self.path = path
        self.line = line
        place = path if line is None else f"{path}:{line}"
        super().__init__(abridged(what), place=place, hint=hint and abridged(hint))

    def without_lines(self) -> ZoneFileError:
        """Return the error for a file that may be a key file, so that no line of it is shown."""
        return ZoneFileError(f"cannot be read; {KEY_FILE_TEXT}", path=self.path, line=self.line, hint=KEY_FILE_HINT)


class KeyFileError(P2pdnsError):
    """A key file that cannot be read, written or trusted."""


class Unavailable(P2pdnsError):
    """A daemon, port, node or file that this program needs is not there."""


class DaemonGone(Unavailable):
    """A daemon that was asked has ended, or is silent, in the middle of a reply or of a command."""


class NoContact(Unavailable):
    """No node of the overlay could be joined, so nothing was asked or put."""


Mistake = TypeVar("Mistake", bound=P2pdnsError)


def together(found: Iterable[Mistake]) -> Mistake:
    """Return the first of some mistakes by line, with the others in its `mistakes`: `MISTAKES_MAX` in all.

    >>> error = together([ConfigError("two", line=2), ConfigError("one", line=1)])
    >>> str(error), [mistake.line for mistake in error.mistakes]
    ('one', [1, 2])
    """
    # A mistake without a line is about the whole file, and comes last.
    ordered = sorted(found, key=lambda mistake: (mistake.line is None, mistake.line or 0))
    first, *others = ordered[:MISTAKES_MAX]
    first._others = tuple(others)
    if len(ordered) > MISTAKES_MAX:
        more = f"there are more; these are the first {MISTAKES_MAX}"
        others[-1].hint = f"{others[-1].hint}\n{more}" if others[-1].hint else more
    return first


class StrangerError(P2pdnsError):
    """Refused input from the network. `reason` is a short token, and the name of a counter.

    >>> str(FormatError("name-too-long", "271 bytes, 255 allowed"))
    'name-too-long: 271 bytes, 255 allowed'
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class FormatError(StrangerError):
    """Bytes or text that break their format."""


class BadItem(StrangerError):
    """An item with a wrong key, signature, target or value."""


class BadRequest(StrangerError):
    """A well-formed request that the rules refuse; `code` is the KRPC error code (BEP 5, BEP 44)."""

    def __init__(self, reason: str, code: int, detail: str = "") -> None:
        self.code = code
        super().__init__(reason, detail)
