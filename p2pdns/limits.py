"""The limits of questions that several rooms share; a limit of one module alone is in that module."""

from __future__ import annotations

QUESTION_S_MAX = 4.0  # From the client's query to its response; stub resolvers give up after 5.
QUESTION_RPCS_MAX = 250  # Requests to nodes in all look-ups of a question; a look-up among 10,000 nodes takes about 30.
QUESTION_LOOKUPS_MAX = 6  # Look-ups that a question may wait for: a chain of aliases through as many unknown zones.
QUESTIONS_MAX = 1_024  # Questions pending at the engine; each costs it a task.
FORWARDED_MAX = QUESTIONS_MAX // 2  # Pending at an upstream: a dead upstream must leave room for other questions.
