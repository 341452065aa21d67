"""Metrics with confidence intervals, and evaluation protocols."""
