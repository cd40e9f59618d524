"""The doors that clients come through: the sockets of each transport, in front of one funnel."""
