"""The application: command line, composition of settings, parts of a run, processes."""
