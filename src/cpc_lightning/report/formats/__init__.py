"""A run's verdict on labels in the formats of other tools; one file a format."""
