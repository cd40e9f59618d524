"""p2pdns: a peer-to-peer DNS resolver.

The words of this program, each with one meaning:

DNS (RFC 9499)
    name            an absolute domain name; its parts are labels
    owner           the name an RRset is found at
    RR, RRset       a resource record; all records of one owner and type
    zone, apex      what one key has signed; the name at its top
    delegation      NS records below the apex: here the subtree belongs to another key
    negative answer NXDOMAIN or NODATA, and only a verified zone may give one
    stub resolver   the client that asks us
    upstream        the ordinary resolver that we forward other names to

Overlay (Kademlia, BEP 5, BEP 44)
    overlay         the network as a whole; a node is a participant in it
    contact         what we know of another node: its id and address
    target          the 20-byte point in the space of ids where an item is kept
    look-up         the iterative search for the nodes nearest a target
    get, put        read an item from, write an item to those nodes
    republish       put the same item again before it expires

Items and keys
    zone key        the Ed25519 public key that names a zone: 52 characters of z-base-32
    zone id         what names a zone, as distinct from the key that signs it; today that key
    secret key      its other half, held by the publisher
    item            the signed thing in the overlay (a record is always a DNS RR)
    seq             the item's number: Unix time in microseconds; higher supersedes lower

Answers
    provisional     given before the look-up was complete: short-lived, never negative
    settled         given after a complete look-up
    fresh, stale    before and after the item's own expiry
"""

__version__ = "0.1.0"
