"""Programs of others as judges: forwarders and resolvers before and behind us, in their versions of Debian."""
