"""ALS: matrix factorisation by alternating least squares."""
