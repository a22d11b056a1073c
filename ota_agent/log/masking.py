"""Keeps secrets out of everything that is shown, by what they are and by what they are called."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "***"

_KEYS = frozenset({"authorization", "key", "password", "secret", "token"})
# A shorter one is no secret, and masking it would garble everything else.
_LEAST_LENGTH = 4


class _Known:
    """The secrets of this process, longest first."""

    lock = threading.Lock()
    secrets: tuple[str, ...] = ()


def register_secret(value: str) -> None:
    """Have a secret masked wherever it turns up from now on, as it is or as part of a URL.

    Anything shorter than 4 characters is left alone.
    """
    from urllib.parse import quote, quote_plus

    if len(value) >= _LEAST_LENGTH:
        with _Known.lock:
            known = {*_Known.secrets, value, quote(value, safe=""), quote_plus(value)}
            # One that holds another goes first, or its rest would stay.
            _Known.secrets = tuple(sorted(known, key=len, reverse=True))


def mask(text: str) -> str:
    """Give the text without any registered secret."""
    for secret in _Known.secrets:
        text = text.replace(secret, MASK)
    return text


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave only masked text, numbers, lists and dicts: whatever renders them finds no secret.

    The value of a key whose last word is token, key, password, secret or authorization is masked
    whatever it is; `token_host` and `ssh_key_file` are no such keys.
    """
    return {mask(str(key)): _plain(str(key), value) for key, value in values.items()}


def _plain(key: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if key.lower().replace("-", "_").rpartition("_")[2] in _KEYS:
        return MASK
    match value:
        case int() | float():
            return value
        case dict():
            return plain(value)
        case list() | tuple() | set() | frozenset():
            return [_plain("", inner) for inner in value]
        case _:
            return mask(str(value))
