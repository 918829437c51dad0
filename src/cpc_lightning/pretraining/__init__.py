"""What a backbone learns from images alone, before labels are looked at."""
