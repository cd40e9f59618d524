"""Sockets and what stands on them: the endpoint of the node, ordinary resolvers, neighbours, changes of the network."""
