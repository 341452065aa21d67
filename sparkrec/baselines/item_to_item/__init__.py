"""ItemCF and Swing: tables of similar items, computed on Spark."""
