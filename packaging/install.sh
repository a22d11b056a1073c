#!/bin/bash
# Puts the package into .venv as a user gets it: from its wheel. Does nothing while the sources are
# what they were.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly stamp=.venv/.wheel-stamp

fingerprint() {
    # What is not there does not count; the build says what it lacks.
    { find ota_agent packaging LICENSE README.md pyproject.toml -type f -not -name '*.pyc' \
        -print0 2>/dev/null || true; } | sort -z | xargs -0 sha256sum | sha256sum
}

now=$(fingerprint)
if [ -e $stamp ] && [ "$now" = "$(<$stamp)" ]; then
    exit 0
fi
rm -f $stamp
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
.venv/bin/pyproject-build --no-isolation --wheel --outdir "$wheels" . >"$wheels/log" 2>&1 || {
    cat "$wheels/log" >&2
    exit 1
}
.venv/bin/python -m pip --disable-pip-version-check --quiet install \
    --no-index --no-deps --force-reinstall "$wheels"/*.whl
printf '%s\n' "$now" >$stamp
