#!/bin/sh
# codespell knows every word of code, comments and pages.
set -eu
command -v codespell >/dev/null || {
    echo "codespell is not installed"
    exit 77
}
# Words that are right here, or wrong on purpose.
git ls-files -co --exclude-standard | grep -v '^tests/fuzz/corpus/' |
    xargs codespell --ignore-words-list=unstall,inflight,ines,siz,cpoy,memroy
