"""ItemCF and Swing: neighbours of items, counted on Spark."""
