"""Tables to numbers: the catalogue of items, both sides' encoders, training rows, queries."""
