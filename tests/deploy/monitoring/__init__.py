"""Alerts and the dashboard, by Prometheus itself."""
