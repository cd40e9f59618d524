"""Programs of others as judges, in their versions of Debian: forwarders, resolvers and browsers."""
