"""One iterative look-up: `search` conducts it, `shortlist` has its contacts, `verdict` says how it ended."""
