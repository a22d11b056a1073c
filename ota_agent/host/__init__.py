"""The device around the work_dir: commands, probes, addresses, systemd, clock and facts."""
