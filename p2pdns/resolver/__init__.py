"""From a question to an answer, step by step.

`names` says where a name belongs and in which form its client sees it, `local` has the zones that need no publisher,
`steps` the values between a resolution and its driver, `foreign` cleans the replies of upstreams, `rebinding` withholds
addresses, `resolution` is the machine, `draft` its answer in the making, `weakness` says what may not rest on an item,
`missing` what is said where there is none, `service` is the driver. Guarantees: no clock, no socket; a resolution asks
its driver for all that it needs, within a fixed budget. Does not know how items are found, or how an upstream is asked.
"""
