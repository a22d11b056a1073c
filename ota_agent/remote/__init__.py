"""Where releases come from and where reports go."""
