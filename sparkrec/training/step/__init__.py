"""What a step does: a batch to its loss and gradients, and those to new weights."""
