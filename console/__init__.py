"""The console: the gateway's calls by HTTP, for callers without gRPC, and pages for people.

settings, main   what the process is told, and its life
app              its routes, and what every request goes through
calls            the contract's RPCs, and how one is passed on to the process that answers it
api              REST, Connect and gRPC-Web, and their OpenAPI document
pages            what people see
"""
