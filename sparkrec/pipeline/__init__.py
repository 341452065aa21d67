"""A job from its conf to its report: inputs, the run folder, results, the command line."""
