"""Zones of other name servers in, and zones in the form of other name servers out.

`usual` has the names that domains usually have, `gathering` asks for them, `imported` makes a zone file of the records,
and `formats` writes zones for other programs. Does not know sockets, files, keys of users, or the overlay.
"""
