"""Questions to ordinary resolvers: which ones are asked, in which order, and which replies are believed.

`system` follows the resolvers of the machine, `current` holds those in force, `standing` what is known of each,
`exchange` carries one query, `asking` chooses the server and the moment, and `waiting` delays calls. Guarantees:
packets go to the configured servers and nowhere else. Does not know which names are ours: its caller has decided that.
"""
