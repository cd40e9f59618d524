"""The testbed: containers when there is an engine, namespaces when there is root."""
