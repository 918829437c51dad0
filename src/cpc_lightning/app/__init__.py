"""From the command line to a run: overrides, checked settings, parts, processes."""
