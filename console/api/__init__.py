"""The contract by HTTP: as REST, and as Connect and gRPC-Web.

connect   Connect and gRPC-Web, at the RPCs' own paths
routes    which method and path of REST stands for which RPC
rest      REST: JSON in, JSON out
openapi   the document that describes it
"""
