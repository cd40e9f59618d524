"""What runs p2pdns somewhere: the example configuration, and the testbed of containers with its tool."""
