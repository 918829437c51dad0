"""What a run leaves behind: labels.csv, summary.json, tables."""
