"""Torch parts shared by models. Imports no Spark."""
