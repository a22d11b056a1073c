"""Every expected failure of the agent, sorted by who has to act.

    AgentError                code, hint
      TransientError          nobody: try again later, never quarantine
      ReleaseRejected         the publisher: quarantine this release
      DeviceError             the device's operator: report, keep running, do not deploy
      ConfigError             whoever wrote the configuration: exit 78

A code is stable and documented in docs/errors.md; a message may change. `NotYet` and `Stopped` are
no failures: the first says that a step has to wait, the second that the agent was asked to end.
"""

from __future__ import annotations

from ota_agent.errors.base import (
    AgentError,
    ConfigError,
    DatabaseNewer,
    DeviceError,
    NotYet,
    ReleaseRejected,
    SourceNotAsked,
    Stopped,
    TransientError,
)
from ota_agent.errors.device import (
    BackupUnusable,
    CommandsUnusable,
    DatabaseBusy,
    DatabaseDamaged,
    DiskFault,
    DiskFull,
    GitUnusable,
    Locked,
    ReleaseMissing,
    ReleaseRefused,
    SourceNotFound,
    SourceRedirected,
    SourceUntrusted,
    TokenRefused,
    WorkDirForeign,
    WorkDirUnusable,
)
from ota_agent.errors.passing import (
    ConnectivityLost,
    Crashed,
    DeadlineExceeded,
    SourceBusy,
    SourceChanged,
    SourceUnreachable,
    StoreDamaged,
    Superseded,
)
from ota_agent.errors.rejected import (
    HookFailed,
    HookNotExecutable,
    ManifestInvalid,
    NoCommit,
    ProbeFailed,
    Quarantined,
    ReleaseEmpty,
    RolledBackByOperator,
    SyntaxRejected,
    TakesDeviceDown,
    TreeHostile,
    VersionMismatch,
)

__all__ = [
    "AgentError",
    "BackupUnusable",
    "CommandsUnusable",
    "ConfigError",
    "ConnectivityLost",
    "Crashed",
    "DatabaseBusy",
    "DatabaseDamaged",
    "DatabaseNewer",
    "DeadlineExceeded",
    "DeviceError",
    "DiskFault",
    "DiskFull",
    "GitUnusable",
    "HookFailed",
    "HookNotExecutable",
    "Locked",
    "ManifestInvalid",
    "NoCommit",
    "NotYet",
    "ProbeFailed",
    "Quarantined",
    "ReleaseEmpty",
    "ReleaseMissing",
    "ReleaseRefused",
    "ReleaseRejected",
    "RolledBackByOperator",
    "SourceBusy",
    "SourceChanged",
    "SourceNotAsked",
    "SourceNotFound",
    "SourceRedirected",
    "SourceUnreachable",
    "SourceUntrusted",
    "Stopped",
    "StoreDamaged",
    "Superseded",
    "SyntaxRejected",
    "TakesDeviceDown",
    "TokenRefused",
    "TransientError",
    "TreeHostile",
    "VersionMismatch",
    "WorkDirForeign",
    "WorkDirUnusable",
]
