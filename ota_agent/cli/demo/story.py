"""The six acts: what happens to a device, what the agent does about it, and the proof."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING, Any

from ota_agent.cli.demo.device import Device, read_link, runs_as_root
from ota_agent.cli.demo.publisher import GREETING, Publisher, release
from ota_agent.cli.demo.telling import Unexpected
from ota_agent.cli.phrases import span
from ota_agent.store import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ota_agent.cli.demo.telling import Teller

SEALED = 0o444
EDIT = "Hello from somebody else"


class Story:
    """One device and its publisher, below a directory of their own."""

    def __init__(self, root: Path, teller: Teller) -> None:
        """Tell it with `teller`, in `root`."""
        self._teller = teller
        self._publisher = Publisher(root / "publisher")
        self._away = root / "publisher.away"
        self.device = Device(root, self._publisher.directory, teller)
        self._files: dict[str, Mapping[str, str]] = {}

    def tell(self) -> None:
        """Play every act; Unexpected ends it at the first thing that is not as it should be."""
        self._first_deployment()
        self._update()
        self._drift()
        self._bad_release()
        self._power_cut()
        self._rollback_by_hand()

    # --- the acts --------------------------------------------------------------------------------

    def _first_deployment(self) -> None:
        self._teller.begin_act("1. First deployment")
        self._teller.say(
            "A publisher tags version 1.0.0 of a small application in a git repository."
            " An agent starts on a device that has nothing yet."
        )
        if runs_as_root():
            self._teller.say(
                "You are root, so config.json says in so many words that commands of releases may"
                " run, and as whom. The agent runs none as root otherwise."
            )
        self._publisher.create()
        self._publish("1.0.0")
        self.device.prepare()
        self.device.start()
        self._wait_good("1.0.0")
        self._prove_live("1.0.0", previous=None)
        self._prove_status("1.0.0", "ONLINE")

    def _update(self) -> None:
        self._teller.begin_act("2. A new release goes live")
        self._teller.say(
            "The publisher tags 1.1.0. Nobody tells the device: its agent looks once a second."
        )
        self._publish("1.1.0")
        published = time.monotonic()
        live = self.device.wait("1.1.0 goes live", lambda: self._is_live("1.1.0"))
        self._wait_good("1.1.0")
        deployment = self._history()[0]
        switch_s = self.device.log.seconds_in(deployment["deployment"], "activate", "confirm")
        self._teller.say(
            f"Live {span(live - published)} after it was published; the switch itself took"
            f" {span(switch_s)}. Then 1.1.0 had to prove itself for a second."
        )
        self._prove_live("1.1.0", previous="1.0.0")
        self._prove_status("1.1.0", "ONLINE")

    def _drift(self) -> None:
        self._teller.begin_act("3. Somebody edits a live file")
        file = self.device.work_dir / "live" / GREETING
        good = file.read_bytes()
        self._teller.typed(f"chmod u+w live/{GREETING}")
        self._teller.typed(f"echo '{EDIT}' > live/{GREETING}")
        file.chmod(0o644)
        file.write_text(f"{EDIT}\n", encoding="utf-8")
        edited = time.monotonic()
        mended = self.device.wait("the edit is undone", lambda: file.read_bytes() == good)
        self._teller.say(
            f"The agent put the release's own file back {span(mended - edited)} after the edit."
            ' It does so because config.json says "repair"; by default it only reports.'
        )
        self._prove_live("1.1.0", previous="1.0.0")
        self._prove("the file's mode", f"{SEALED:o}", f"{stat.S_IMODE(file.stat().st_mode):o}")
        self._teller.proof("the file is read-only again")
        patch = self.device.work_dir / "private" / "drift.patch"
        kept = patch.read_text(encoding="utf-8") if patch.exists() else ""
        self._prove(
            "private/drift.patch", [f"+{EDIT}"], [x for x in kept.splitlines() if EDIT in x]
        )
        self._teller.proof("the edit is not lost: private/drift.patch keeps it")
        self._prove_status("1.1.0", "ONLINE")

    def _bad_release(self) -> None:
        self._teller.begin_act("4. A release that does not work")
        self._teller.say(
            "The publisher tags 1.2.0 with a typo in its settings. The release's own"
            " probe, bin/self-test.sh, will notice, but only once it is live."
        )
        self._publish("1.2.0", port="eighty")
        self.device.wait("1.2.0 is in quarantine", lambda: bool(self._shown("quarantine")))
        self.device.wait("1.1.0 is back", lambda: self._is_idle_with("1.1.0"))
        failed = self._history()[0]
        self._prove("history --json: the ending", "rolled_back", failed["ending"])
        self._teller.say("The agent put 1.1.0 back, and says why:")
        self._teller.output(failed["error"]["message"])
        self._prove_live("1.1.0", previous="1.0.0")
        # The status stays ERROR until something has gone right.
        self._prove_status("1.1.0", "ERROR", quarantine={"1.2.0": "release.probe_failed"})
        self._teller.say("1.2.0 is still offered, and is not tried again:")
        self.device.show("check", exit_code=3)

    def _power_cut(self) -> None:
        self._teller.begin_act("5. The agent is killed while a release goes live")
        self._teller.say(
            "The publisher mends it in 1.3.0, which takes two seconds to restart its service."
            " In the middle of that the agent is killed, as by a power cut."
        )
        self._publish("1.3.0", is_slow=True)
        self.device.wait("1.3.0 goes live", lambda: self._is_live("1.3.0"))
        self.device.kill()
        phase = self.device.read("status")["phase"]
        self._prove("status --json: the phase at the kill", "activate", phase)
        self._prove_whole("1.3.0")
        self._teller.proof("live names 1.3.0, which is whole, but has not proved itself")
        self._prove_status("1.3.0", "OFFLINE", phase="activate")
        atomic.rename(self._publisher.directory, self._away)
        self._teller.say(
            "Worse: the publisher's repository is out of reach now. The way back needs no network."
            " The agent starts again:"
        )
        self.device.start()
        self.device.wait("1.1.0 is put back", lambda: self._is_idle_with("1.1.0"))
        self._prove_live("1.1.0", previous="1.0.0")
        cut = self._history()[0]
        self._prove(
            "history --json: ending", ("1.3.0", "rolled_back"), (cut["release"][:5], cut["ending"])
        )
        self._teller.proof(f"history --json: 1.3.0 was rolled back, {cut['error']['code']}")
        self._teller.say(
            "The repository is back. A crash is not held against a release at once, so 1.3.0 may"
            " try again:"
        )
        atomic.rename(self._away, self._publisher.directory)
        self.device.show("update")
        self._wait_good("1.3.0")
        self._prove_live("1.3.0", previous="1.1.0")
        self._prove_status("1.3.0", "ONLINE")

    def _rollback_by_hand(self) -> None:
        self._teller.begin_act("6. The operator goes back by hand")
        self._teller.say("Nothing is wrong with 1.3.0, but the operator wants 1.1.0 again.")
        self.device.show("rollback")
        self._wait_good("1.1.0")
        self._prove_live("1.1.0", previous="1.3.0")
        back = self._history()[0]
        self._prove("history --json", ("rollback", "succeeded"), (back["kind"], back["ending"]))
        refused = {"1.2.0": "release.probe_failed", "1.3.0": "operator.rolled_back"}
        self._prove_status("1.1.0", "ONLINE", quarantine=refused)
        self._teller.say("1.3.0 stays away until `ota-agent retry 1.3.0` lets it in again:")
        self.device.show("check", exit_code=3)
        self._prove_live("1.1.0", previous="1.3.0")

    # --- what happens ----------------------------------------------------------------------------

    def _publish(self, version: str, **how: Any) -> None:  # noqa: ANN401 - as `release`
        self._files[version] = release(version, **how)
        self._publisher.publish(version, self._files[version])

    def _wait_good(self, version: str) -> None:
        self.device.wait(
            f"{version} is live and has proved itself",
            lambda: self._is_idle_with(version) and _version(self._shown("last_good")) == version,
        )

    def _is_live(self, version: str) -> bool:
        return (self.device.live() or "").startswith(f"{version}-")

    def _is_idle_with(self, version: str) -> bool:
        shown = self.device.glance()
        return shown is not None and shown["phase"] is None and _version(shown["live"]) == version

    def _shown(self, key: str) -> Any:  # noqa: ANN401 - JSON as it comes
        shown = self.device.glance()
        return None if shown is None else shown[key]

    def _history(self) -> Any:  # noqa: ANN401 - JSON as it comes
        return self.device.read("history")

    # --- the proof -------------------------------------------------------------------------------

    def _prove_live(self, version: str, *, previous: str | None) -> None:
        """Look at the disk: the links, and every byte of the live tree."""
        live = self.device.live()
        self._prove("the version that live names", version, _label(live))
        before = _label(read_link(self.device.work_dir / "previous"))
        self._prove("the version that previous names", previous, before)
        self._prove_whole(version)
        self._teller.proof(f"live -> releases/{live}")
        count = len(self._files[version])
        self._teller.proof(f"its {count} files are those of {version}, byte for byte")

    def _prove_whole(self, version: str) -> None:
        live = (self.device.work_dir / "live").resolve()
        found = {
            path.relative_to(live).as_posix(): path.read_text(encoding="utf-8", errors="replace")
            for path in live.rglob("*")
            if path.is_file()
        }
        expected = self._files[version]
        paths = sorted(expected.keys() | found.keys())
        differing = [path for path in paths if expected.get(path) != found.get(path)]
        self._prove(f"files in live that differ from {version}", [], differing)

    def _prove_status(
        self,
        version: str,
        word: str,
        *,
        phase: str | None = None,
        quarantine: Mapping[str, str] | None = None,
    ) -> None:
        """Ask `status --json`."""
        status = self.device.read("status")
        self._prove("status --json: status", word, status["status"])
        self._prove("status --json: phase", phase, status["phase"])
        self._prove("status --json: drift.files", [], status["drift"]["files"])
        self._prove("status --json: live.version", version, _version(status["live"]))
        told = f"status --json: {word}, live {version}"
        if phase is not None:
            told += f", in phase {phase}"
        if quarantine is not None:
            found = {_label(entry["release"]): entry["code"] for entry in status["quarantine"]}
            self._prove("status --json: quarantine", dict(quarantine), found)
            told += f", in quarantine {', '.join(quarantine)}"
        self._teller.proof(told)

    def _prove(self, what: str, expected: object, found: object) -> None:
        if expected != found:
            raise Unexpected(what, expected, found)


def _version(shown: Mapping[str, Any] | None) -> str | None:
    return None if shown is None else shown["version"]


def _label(name: str | None) -> str | None:
    """Give the version that a release's id begins with."""
    return None if name is None else name.partition("-")[0]
