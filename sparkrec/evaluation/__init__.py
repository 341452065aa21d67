"""Metrics with intervals, named protocols, and the report."""
