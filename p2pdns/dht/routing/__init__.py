"""The routing table: the other nodes that a node knows, ordered by their distance from its own id.

`ids` has node ids, their distance and BEP 42; `reach` who may be told of whom; `contact` what is known of another node;
`bucket` the contacts of one range of ids; `table` all of them.
"""
