"""`mode=check`: examines a run before it starts."""
