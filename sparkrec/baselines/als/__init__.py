"""ALS, matrix factorisation."""
