"""What git is told before it runs: a cleaned environment, and every setting that matters.

Repositories are hostile until staged: no system or user configuration, no hooks, filters or
fsmonitor, no helper that could ask for a password, and only the protocol of the one source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ota_agent.remote.access import Access

# What of the agent's own environment git and ssh may see. The rest holds the agent's secrets
# (GITLAB_TOKEN), or would steer git (GIT_*, LD_PRELOAD).
KEPT: Final = frozenset(
    {
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "PATH",
        "SSH_AUTH_SOCK",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "all_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    }
)

BIG_FILE_BYTES: Final = 32 * 1024 * 1024

_CONFIG: Final[Mapping[str, str]] = {
    "advice.detachedHead": "false",
    "core.askPass": "",
    "core.attributesFile": "/dev/null",
    # Streamed, never whole in memory, and stored without deltas.
    "core.bigFileThreshold": str(BIG_FILE_BYTES),
    "core.fsmonitor": "false",
    "core.fsync": "all",
    "core.hooksPath": "/dev/null",
    "core.logAllRefUpdates": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",  # always one pack: ten thousand loose files cost minutes
    "filter.lfs.process": "",
    "filter.lfs.required": "false",
    "filter.lfs.smudge": "",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.sslVerify": "true",
    "init.defaultBranch": "main",
    "init.templateDir": "",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "pack.windowMemory": "64m",
    "protocol.allow": "never",
    "safe.bareRepository": "explicit",
    "submodule.recurse": "false",
    "transfer.bundleURI": "false",
    "transfer.credentialsInUrl": "die",
    "transfer.fsckObjects": "true",
}


def environment(
    home: Path,
    *,
    git_dir: Path | None,
    access: Access | None,
    inherited: Path | None,
    stall_s: float,
) -> dict[str, str]:
    """Give the variables for one git.

    `home` is an empty directory; `git_dir` the repository that is worked on, `access` the address
    that is spoken to; `inherited` the file of `Access.inherited_config`.
    """
    config = {**_CONFIG, "http.lowSpeedTime": str(max(1, round(stall_s)))}
    variables = {
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(home.parent),
        "GIT_CONFIG_GLOBAL": str(inherited or "/dev/null"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "HOME": str(home),
        "LANGUAGE": "C",
        "LC_ALL": "C",
        "XDG_CONFIG_HOME": str(home),
    }
    if git_dir is not None:
        config["safe.directory"] = str(git_dir)
    if access is not None:
        config |= {f"protocol.{access.protocol}.allow": "always", **access.config}
        variables |= {"GIT_ALLOW_PROTOCOL": access.protocol, **access.environment}
    else:
        variables["GIT_ALLOW_PROTOCOL"] = "none"
    variables["GIT_CONFIG_COUNT"] = str(len(config))
    for number, (key, value) in enumerate(config.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def cleaned(command: Iterable[str], own: Iterable[str], present: Iterable[str]) -> list[str]:
    """Give the command without what is present in the agent's environment and not git's to see.

    GitPython hands the whole environment down and can only add to it, so env(1) takes away; it
    names variables, never values, in its arguments.
    """
    foreign = sorted(set(present) - KEPT - set(own))
    options = [word for name in foreign for word in ("-u", name)]
    return ["env", *options, *command] if foreign else list(command)
