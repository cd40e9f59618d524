"""Fuzzing: what must hold for any bytes, and where the bytes come from.

`reading` reads a query by itself, `door` runs the whole front over it and judges every reply, `queries` draws and
mutates queries, `strategies` builds them for hypothesis, `targets` has one function of bytes for each part that reads
what strangers write. The tests in tests/unit/*/test_*_fuzz.py run all of it for seconds; `make fuzz` runs the targets
under atheris, guided by coverage, for as long as one likes, and keeps in `found/` what broke a target.
"""
