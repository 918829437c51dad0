"""How labels become wrong on purpose. Pure."""
