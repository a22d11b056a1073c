"""The update flow: how a device goes from release to release and never stops between two."""
