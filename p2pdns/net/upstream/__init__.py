"""Questions to ordinary resolvers: which ones are asked, in which order, and which replies are believed.

`servers` reads which resolvers the configuration means, `system` follows those of the machine, `current` holds the ones
in force, `standing` what is known of each, `exchange` carries one query, `asking` chooses the server and the moment,
and `waiting` puts calls off. Guarantees: packets go to the configured servers and nowhere else. Does not know which
names are ours: its caller has decided that.
"""
