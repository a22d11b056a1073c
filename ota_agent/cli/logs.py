"""The log of a command that works on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ota_agent.config import Config, Loaded


def open_log(config: Config, *, quiet: bool = False) -> None:
    """Set up the log, which masks every secret of the configuration from now on.

    A `quiet` one has warnings and errors alone: the command says itself what it does.
    """
    from ota_agent import log

    log.configure(config.log.format, "warning" if quiet else config.log.level)
    token = config.credentials.token if config.credentials else None
    for secret in (token, config.supabase_key, config.device_token):
        if secret is not None:
            log.register_secret(secret.get_secret_value())


def log_remarks(loaded: Loaded) -> None:
    """Say in the log what is accepted, and is still not what was meant."""
    from ota_agent import log

    logger = log.get_logger(__name__)
    for warning in loaded.warnings:
        logger.warning("configuration accepted with a warning", warning=warning)
    if loaded.config.supabase_url is not None:
        logger.warning(
            "reports stay local",
            reason="this version sends nothing to Supabase yet",
            supabase_url=loaded.config.supabase_url,
        )
