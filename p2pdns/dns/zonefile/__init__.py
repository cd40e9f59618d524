"""Zone files: text to RRsets and back, and RDATA as text.

`reader` reads records and directives from the `lines` of a text, with `svcb` and `generate` for what dnspython reads
differently. `explain` has the words for mistakes, `judging` tells which records clash and which are left out,
`warning` tells what is odd. `placeholders` puts zone keys into a text. `writing` turns zones and RDATA into text.

Does not know: where the text came from, secret keys, how much fits in an item.
"""
