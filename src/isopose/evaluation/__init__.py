"""Metrics, averages and protocols."""
