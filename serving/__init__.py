"""The server framework that the three processes share: boundary, admission, settings, telemetry."""
