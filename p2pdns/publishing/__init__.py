"""The publications of this node: how their items are put at the pace of other nodes, and stay published."""
