"""What clients may expect of a DNS server, one module an RFC: bytes in, bytes out."""
