"""What a run leaves behind for people: the label report, the summary, tables."""
