"""The signer: it holds the key of a zone, takes changes from programs that speak RFC 2136, and transfers the zone."""
