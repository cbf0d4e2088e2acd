#!/bin/sh
# Nothing that shellcheck knows is wrong with the shell scripts.
set -eu
command -v shellcheck >/dev/null || {
    echo "shellcheck is not installed"
    exit 77
}
scripts=$(git ls-files -co --exclude-standard '*.sh' .ci/run)
# Paths of the tree have no spaces.
# shellcheck disable=SC2086
shellcheck $scripts
