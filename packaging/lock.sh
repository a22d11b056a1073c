#!/bin/bash
# Writes packaging/lock/*.txt anew from pyproject.toml: `make lock`. What is locked already stays
# where it is unless pyproject.toml asks for more; `make lock UPGRADE=--upgrade` takes the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

# The hashes are those of the public files, whatever pip is told to prefer on this machine.
export PIP_CONFIG_FILE=/dev/null
unset PIP_FIND_LINKS PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_NO_INDEX
export CUSTOM_COMPILE_COMMAND="make lock"

compile() {
    local out="packaging/lock/$1.txt"
    shift
    .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
        ${UPGRADE:+"$UPGRADE"} --output-file "$out" "$@"
}

compile runtime pyproject.toml
compile dev --extra dev --constraint packaging/lock/runtime.txt pyproject.toml
compile systemd --extra systemd --constraint packaging/lock/runtime.txt pyproject.toml
