"""DNS as bytes and as values: names, messages, zones, zone files."""
