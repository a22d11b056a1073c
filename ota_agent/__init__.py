"""The agent that keeps a device on the newest release that it is allowed to run."""

__version__ = "0.1.0"
