#!/bin/bash
# Makes .venv ready for work: `make setup`. Installs the system packages that are missing where it
# may, and says what an administrator has to do where it may not. Quick when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

# sshd, and the tools that dpkg insists on, are not on everyone's PATH.
export PATH="$PATH:/usr/sbin:/sbin"
readonly stamp=.venv/.setup-stamp home_stamp=.venv/.home-stamp

say() { printf 'setup: %s\n' "$*"; }
stop() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# --- what there is --------------------------------------------------------------------------------

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in /usr/bin/python3 "$(command -v python3 || true)"; do
        if [ -x "$candidate" ] && is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# Names, as Debian packages, what this machine lacks.
missing_packages() {
    "$python" - <<'PY'
import importlib.util, pathlib, sysconfig

if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
    print("python3-venv")
if not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file():
    print("python3-dev")
PY
    command -v gcc >/dev/null || echo gcc
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists libsystemd 2>/dev/null || echo libsystemd-dev
    command -v git >/dev/null || echo git
    command -v ssh >/dev/null || echo openssh-client
    command -v sshd >/dev/null || echo openssh-server
}

lacks() { [[ " $missing " == *" $1 "* ]]; }

# How this machine becomes root without asking, one word a line; fails where it cannot.
as_root() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" -eq 0 ]; then
        echo env
    elif sudo -n true 2>/dev/null; then
        printf '%s\n' sudo -n env
    else
        return 1
    fi
}

# --- system packages ------------------------------------------------------------------------------

# In a subshell: what it has to undo is undone when it ends, however that comes.
install_packages() (
    local -a root packages
    mapfile -t root < <(as_root)
    read -ra packages <<<"$missing"
    say "installing $missing"

    # The tests start their own sshd; installing the package must not start one for everybody, nor
    # fail where services cannot be started.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        # shellcheck disable=SC2064  # what root is, is known now and gone at the exit
        trap "${root[*]} rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
        "${root[@]}" chmod 0755 $policy
    fi
    local -a install=("${root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -qq -y
        -o Dpkg::Use-Pty=0 install --no-install-recommends "${packages[@]}")
    local log failed=no
    log=$(mktemp)
    if ! "${install[@]}" </dev/null >"$log" 2>&1; then
        # The package lists are missing or old.
        "${root[@]}" apt-get -qq update </dev/null >"$log" 2>&1 || true
        "${install[@]}" </dev/null >>"$log" 2>&1 || failed=yes
    fi
    if [ $failed = no ] && lacks openssh-server; then
        "${root[@]}" systemctl disable ssh.service >/dev/null 2>&1 || true
    fi
    if [ $failed = yes ]; then
        tail -n 5 "$log" >&2
        say "apt-get could not install them all"
    fi
    rm -f "$log"
)

report_missing() {
    say "this machine lacks: $missing"
    if command -v apt-get >/dev/null; then
        say "an administrator installs them with: apt-get install --no-install-recommends $missing"
    else
        say "those are Debian's names; an administrator installs what they are called here"
    fi
    if lacks git || lacks python3-venv; then
        stop "cannot go on without git and Python's venv module"
    fi
    if ! can_build_systemd; then
        say "going on without systemd-python: the agent runs, but does not talk to systemd"
    fi
    if lacks openssh-client || lacks openssh-server; then
        say "going on without OpenSSH: the tests that fetch over SSH will fail"
    fi
}

# --- the environment ------------------------------------------------------------------------------

can_build_systemd() {
    ! lacks gcc && ! lacks pkg-config && ! lacks libsystemd-dev && ! lacks python3-dev
}

# Changes when there may be something to install.
fingerprint() {
    {
        echo "$home $missing"
        cat packaging/lock/*.txt pyproject.toml packaging/setup.sh
    } | sha256sum
}

make_environment() {
    if [ "$(cat $home_stamp 2>/dev/null)" != "$home" ]; then
        say "making .venv with $python"
        rm -rf .venv
        "$python" -m venv .venv
        printf '%s\n' "$home" >$home_stamp
    fi
    say "installing the locked packages into .venv"
    local -a install=(.venv/bin/python -m pip --disable-pip-version-check -qq install
        --require-hashes)
    "${install[@]}" -r packaging/lock/dev.txt || stop "the locked packages could not be installed"
    can_build_systemd || return 0
    # Source only, built by the locked setuptools: an isolated build would fetch an unlocked one.
    "${install[@]}" --no-build-isolation -r packaging/lock/systemd.txt ||
        say "systemd-python could not be built: the agent runs, but does not talk to systemd"
}

# --------------------------------------------------------------------------------------------------

python=$(find_python) || stop "Python 3.11 or newer is needed: /usr/bin/python3 or one on the PATH"
# An environment works at one place and with one interpreter; elsewhere it is made anew.
home="$PWD $python $("$python" -VV)"
missing=$(missing_packages | xargs)
if [ -e $stamp ] && [ "$(fingerprint)" = "$(<$stamp)" ]; then
    exit 0
fi
if [ -n "$missing" ] && as_root >/dev/null; then
    install_packages
    missing=$(missing_packages | xargs)
fi
[ -z "$missing" ] || report_missing
make_environment
fingerprint >$stamp
say "ready"
