"""Zones of any size: a head with directories, and the shards that these pin (docs/spec.md, Zones of any size).

`directory` has the records that pin shards, `pinned` what is looked for under a pin, `values` the values with a salt,
`head` what the item without a salt says, `shard` the records of one shard, `partial` a zone of which some shards are
at hand, `content` what any item of a zone says, divided or not.
"""
