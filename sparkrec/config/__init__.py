"""A job's YAML conf: templates to nodes that know their line, and those to typed configs."""
