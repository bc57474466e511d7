"""Calls of the two services: which target, how often, for how long, and when not at all.

clients      domain values in and out
caller       one call: attempts, retries and hedges, within its deadline
targets      the addresses of a service, each with a channel, a circuit and its load
circuit      sets a target aside that fails, and finds out when it works again
budget       how many calls may be made beside those that callers asked for
latency      how long calls of a method take
spans        an attempt of a call, in its trace
failures     what a service's failure is to the gateway's caller
"""
