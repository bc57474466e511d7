"""Calls that are passed on: which there are, to whom, with what, and how they fail.

contract    every RPC, from the descriptors
headers     what of an HTTP request goes on with a call
failures    how a call ended, as a status
exposure    whether protected calls may go through
upstreams   the processes behind, and one way to call each
"""
