"""A soak of the generator service: mixed calls while the catalog changes, every answer checked."""
