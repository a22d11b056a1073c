"""Failures that the publisher has to act on: the content is quarantined."""

from __future__ import annotations

from ota_agent.errors.base import ReleaseRejected


class ManifestInvalid(ReleaseRejected):
    """`ota.toml` cannot be read, has an unknown key or a wrong value."""

    code = "release.manifest_invalid"
    hint = "Correct ota.toml and publish a new release."


class HookNotExecutable(ReleaseRejected):
    """A hook or a probe's command is not an executable file of the release."""

    code = "release.hook_not_executable"
    hint = "Set the executable bit (git update-index --chmod=+x FILE) and publish a new release."


class TreeHostile(ReleaseRejected):
    """The tree holds what a release may not hold: escapes, submodules, collisions, limits."""

    code = "release.tree_hostile"
    hint = "Remove what is named from the repository and publish a new release."


class ReleaseEmpty(ReleaseRejected):
    """The release holds no file."""

    code = "release.empty"
    hint = "Publish a release that holds files."


class SyntaxRejected(ReleaseRejected):
    """A file that the manifest declares does not parse."""

    code = "release.syntax_invalid"
    hint = "Correct the file and publish a new release."


class NoCommit(ReleaseRejected):
    """What a tag leads to is no commit: a file or a directory of the repository."""

    code = "release.no_commit"
    hint = "Tag a commit, under a new version."


class VersionMismatch(ReleaseRejected):
    """Tag, tag object and manifest do not agree on the version."""

    code = "release.version_mismatch"
    hint = "Make the tag and the manifest's version agree and publish a new release."


class HookFailed(ReleaseRejected):
    """A hook of the release failed or ran over its time limit."""

    code = "release.hook_failed"
    hint = "Look at the hook's output in the journal and publish a new release."


class ProbeFailed(ReleaseRejected):
    """The release did not prove healthy during its probation."""

    code = "release.probe_failed"
    hint = "Correct what the probe saw and publish a new release."


class TakesDeviceDown(ReleaseRejected):
    """The device went down three times with this release."""

    code = "release.takes_device_down"
    hint = "Find out why the device went down; `ota-agent retry RELEASE` tries it again."


class Quarantined(ReleaseRejected):
    """The same content was rejected before, under this or another name."""

    code = "release.quarantined"
    hint = "Publish a corrected release, or lift it with `ota-agent retry RELEASE`."


class RolledBackByOperator(ReleaseRejected):
    """The operator went back from this release by hand."""

    code = "operator.rolled_back"
    hint = "`ota-agent retry RELEASE` lets the device take it again."
