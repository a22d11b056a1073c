"""What there is to configure. Names carry units; what is not here is an unknown key.

The bounds and descriptions are the only ones: messages, `config schema` and the parsing of
environment variables are made from them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from ota_agent.config.address import check_endpoint, check_host, check_repository, host_of
from ota_agent.model.channel import Branch, Channel, Commit, Tags, parse_channel

YEAR_S = 365 * 24 * 60 * 60

_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=-]{0,63}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")

DEVICE_ID_RULE = (
    "1 to 64 of the characters A-Z a-z 0-9 . _ -, the first of them a letter or a digit"
)


def check_device_id(text: str) -> str:
    """Give the device's name back if it may be one; ValueError spells the rule out."""
    if not _DEVICE_ID.fullmatch(text):
        raise ValueError(f"a device id is {DEVICE_ID_RULE}")
    return text


def _absolute_path(value: object) -> object:
    if not isinstance(value, str):
        return value
    path = Path(value)
    if not path.is_absolute():
        raise ValueError(f"{value!r} is not an absolute path; it has to begin with /")
    if ".." in path.parts or path == Path("/"):
        raise ValueError(f"{value!r} is / or climbs with ..; name the place itself")
    return path


def _channel(value: object) -> Channel:
    if isinstance(value, Branch | Tags | Commit):
        return value
    if value is None or isinstance(value, str):
        try:
            return parse_channel(value)
        except ValueError as error:
            # The line that shows it begins with the key.
            raise ValueError(str(error).removeprefix("channel ")) from error
    raise ValueError("not a text such as branch:main, tag:* or tag:>=1.4,<2")


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{text!r} is no label: 1 to 64 of the characters A-Z a-z 0-9 . _ : = -")
    return text


def _glob(text: str) -> str:
    if not text or text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r} is no pattern of paths in a release, as *.log or cache/*")
    return text


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a user")
    return text


def _sequence(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _plain_number(value: float) -> float:
    return int(value) if value == int(value) else value


AbsolutePath = Annotated[
    Path,
    BeforeValidator(_absolute_path),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": "^/", "description": "an absolute path"}),
]


class _ChannelText:
    """Tells pydantic to leave the type alone: a channel is read from its text, and shown as it."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _channel, serialization=core_schema.to_string_ser_schema(when_used="always")
        )


ChannelForm = Annotated[
    Channel,
    _ChannelText,
    WithJsonSchema(
        {
            "type": "string",
            "description": "a text such as branch:main, tag:* or tag:>=1.4,<2",
            "examples": ["branch:main", "tag:*", "tag:>=1.4,<2"],
        }
    ),
]
Seconds = Annotated[float, PlainSerializer(_plain_number, return_type=int | float)]
Host = Annotated[str, AfterValidator(check_host)]
Label = Annotated[str, AfterValidator(_label)]
Glob = Annotated[str, AfterValidator(_glob)]
User = Annotated[str, AfterValidator(_user)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
Repository = Annotated[str, AfterValidator(check_repository)]


class Section(BaseModel):
    """Frozen, and strict: `"300"` is no number, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        # Only the model that is used is built: `status` has no time for ten.
        defer_build=True,
    )


class Source(Section):
    """Where releases come from."""

    type: Literal["git"] = Field(description="kind of source; git is any git remote")
    url: Repository = Field(
        description="address of the repository: https, ssh, file; plain http for loopback only"
    )
    channel: ChannelForm = Field(
        Branch(), description="what to follow; branch:HEAD is the remote's default branch"
    )
    token_host: Host | None = Field(
        None, description="the one host[:port] that is given the token; null is the host of url"
    )
    ssh_key_file: AbsolutePath | None = Field(
        None, description="private key for ssh; null leaves it to ssh"
    )
    ssh_known_hosts_file: AbsolutePath | None = Field(
        None, description="host keys to trust; null leaves it to ssh"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_token_host(cls, data: Any) -> Any:  # noqa: ANN401 - what pydantic hands over
        if not isinstance(data, dict) or data.get("token_host") is not None:
            return data
        url = data.get("url")
        return {**data, "token_host": host_of(url) if isinstance(url, str) else None}


class Drift(Section):
    """What happens when the live tree differs from its release."""

    mode: Literal["report", "repair", "ignore"] = Field(
        "report", description="what to do about drift"
    )
    ignore: Annotated[tuple[Glob, ...], BeforeValidator(_sequence)] = Field(
        ("__pycache__",), description="patterns of paths that may differ"
    )


class Backups(Section):
    """What is kept for the way back."""

    keep: int = Field(5, ge=1, le=100, description="releases to keep")
    keep_data: int = Field(
        1, ge=1, le=100, description="newest backups that keep their copy of persistent data"
    )


class Disk(Section):
    """What an update leaves free on the file system of work_dir."""

    reserve_bytes: int = Field(64 * 2**20, ge=0, le=2**50, description="bytes left free")
    reserve_inodes: int = Field(1000, ge=0, le=2**40, description="inodes left free")


class Trust(Section):
    """Whose releases may do what."""

    accept_unsigned_commands: bool = Field(
        default=False, description="as root, run the commands of releases that nobody signed"
    )


class Commands(Section):
    """How the commands of a release are run."""

    user: User | None = Field(
        None, description="who runs them; null is the agent's own user, and nobody when it is root"
    )
    timeout_s: Seconds = Field(
        600, gt=0, le=YEAR_S, description="seconds that one command may take"
    )


class Log(Section):
    """What the agent writes about itself."""

    format: Literal["journal", "console", "json"] | None = Field(
        None,
        description="null: journal under systemd, else console on a terminal, else json",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least important messages that are written"
    )


class Supabase(Section):
    """What Supabase may ask of the device, and how often it is asked."""

    allowed_sources: Annotated[tuple[Host, ...], BeforeValidator(_sequence)] | None = Field(
        None, description="hosts that it may point the device to; null is the host of source.url"
    )
    sync_interval_s: Seconds = Field(60, ge=1, le=YEAR_S, description="seconds between reports")


class Credentials(Section):
    """What the source is shown; comes from the environment, never from a file of settings."""

    username: str
    token: SecretStr


class Settings(Section):
    """The keys of config.json."""

    work_dir: AbsolutePath = Field(
        Path("/var/lib/ota-agent"), description="directory of the device; one device each"
    )
    source: Source
    poll_interval_s: Seconds = Field(
        300, ge=1, le=YEAR_S, description="seconds between two looks at the source"
    )
    drift: Drift = Field(default_factory=Drift.model_construct)
    backups: Backups = Field(default_factory=Backups.model_construct)
    disk: Disk = Field(default_factory=Disk.model_construct)
    trust: Trust = Field(default_factory=Trust.model_construct)
    commands: Commands = Field(default_factory=Commands.model_construct)
    labels: Annotated[tuple[Label, ...], BeforeValidator(_sequence)] = Field(
        (), description="what this device is, for `compatible` in a manifest"
    )
    connectivity_grace_s: Seconds = Field(
        600, ge=0, le=YEAR_S, description="seconds without network that a new release is granted"
    )
    log: Log = Field(default_factory=Log.model_construct)
    supabase_url: Endpoint | None = Field(
        None, description="address of the Supabase project; null keeps reports on the device"
    )
    supabase_key: SecretStr | None = Field(None, description="its publishable key")
    device_token: SecretStr | None = Field(None, description="this device's own token")
    supabase: Supabase = Field(default_factory=Supabase.model_construct)


class Config(Settings):
    """The settings, and what only the environment may hand over."""

    credentials: Credentials | None = None
