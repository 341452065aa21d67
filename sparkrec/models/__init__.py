"""The networks, one file each. Imports no Spark."""
