"""The domain, without any gRPC: bundle, catalog, attributes, filters, item codes, diversity."""
