"""What a run leaves behind: labels.csv, summary.json, tables, the page, files for other tools."""
