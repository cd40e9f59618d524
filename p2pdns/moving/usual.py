"""The names that domains usually have, relative to the domain, each with the types worth asking for.

Guarantees: every name is here once, the first type of a name is the one that tells best whether it exists. Does not
know whether a domain has any of them.
"""

from __future__ import annotations

from p2pdns.dns.registry import Type

APEX_TYPES = (Type.A, Type.AAAA, Type.MX, Type.TXT, Type.CAA, Type.HTTPS, Type.SVCB, Type.NS, Type.CNAME)
# Types that a wildcard may have. If a random name has an answer of one of these types, there is a wildcard.
PROBE_TYPES = (Type.A, Type.AAAA, Type.MX, Type.TXT)

_WEB = "www"
_HOSTS = """
mail smtp smtp2 mx mx1 mx2 imap pop pop3 webmail autoconfig autodiscover mta-sts ftp sftp ssh vpn ns ns1 ns2 ns3 ns4
api app blog chat cloud dev docs forum git m matrix media meet news shop status static test wiki xmpp jabber sip
"""
# Keys of mail signatures: those of large providers, and those that guides recommend.
_SELECTORS = """
default dkim dkim1 mail google selector1 selector2 k1 k2 k3 s1 s2 key1 key2 fm1 fm2 fm3 protonmail protonmail2
protonmail3 zoho zmail sig1 mxvault mandrill mailjet smtp 20230601
"""
_TEXTS = "_dmarc _mta-sts _smtp._tls _atproto _domainkey default._bimi"
_SERVICES = """
_autodiscover._tcp _imap._tcp _imaps._tcp _pop3._tcp _pop3s._tcp _submission._tcp _submissions._tcp _sieve._tcp
_xmpp-client._tcp _xmpps-client._tcp _xmpp-server._tcp _xmpps-server._tcp _sip._tcp _sip._udp _sips._tcp
_matrix._tcp _matrix-fed._tcp _caldav._tcp _caldavs._tcp _carddav._tcp _carddavs._tcp _stun._udp _turn._udp
"""
_CERTIFICATES = "_443._tcp _443._tcp.www _25._tcp.mail _25._tcp"

HOST_TYPES = (Type.A, Type.AAAA)


def _table() -> dict[str, tuple[Type, ...]]:
    found: dict[str, tuple[Type, ...]] = {_WEB: (*HOST_TYPES, Type.HTTPS)}
    for names, types in (
        (_HOSTS, HOST_TYPES),
        (_TEXTS, (Type.TXT,)),
        (" ".join(f"{selector}._domainkey" for selector in _SELECTORS.split()), (Type.TXT,)),
        (_SERVICES, (Type.SRV,)),
        (_CERTIFICATES, (Type.TLSA,)),
    ):
        found |= dict.fromkeys(names.split(), types)
    return found


USUAL: dict[str, tuple[Type, ...]] = _table()
"""Each usual name with its types."""
