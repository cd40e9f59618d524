"""What one question may cost, and how many there may be at a time: the limits that several rooms keep together.

A limit that one module alone keeps stands in that module.
"""

from __future__ import annotations

QUESTION_S_MAX = 4.0  # From the client to its response; stub resolvers give up after 5.
QUESTION_RPCS_MAX = 250  # Requests to nodes, over all its look-ups; a look-up among 10,000 nodes takes about 30.
QUESTION_LOOKUPS_MAX = 6  # Look-ups it may wait for: a chain of aliases through as many zones that are not here yet.
QUESTIONS_MAX = 1_024  # Questions that the front has put to the engine; each costs the engine a task.
FORWARDED_MAX = QUESTIONS_MAX // 2  # Of them, those that wait for an upstream: a dead one must leave room for others.
