"""What can be found out about a run before it starts (`mode=check`). Neither Lightning nor Hydra."""
