"""What Tandem's three processes share: the bundle, errors, settings, telemetry and start-up."""
