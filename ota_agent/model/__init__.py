"""Frozen values and the rules that need no world: no module here reads or writes anything."""
