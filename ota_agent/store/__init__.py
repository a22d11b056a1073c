"""The device's disk: everything that outlives the process, and the only door to it."""
