"""The gateway: one `Recommend` call becomes calls of the candidate and the generator service."""
