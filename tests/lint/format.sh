#!/bin/sh
# Every C file is as clang-format leaves it (.clang-format).
set -eu
command -v clang-format >/dev/null || {
    echo "clang-format is not installed"
    exit 77
}
git ls-files -co --exclude-standard '*.c' '*.h' | {
    bad=0
    while read -r file; do
        [ -f "$file" ] || continue
        clang-format "$file" | diff -u "$file" - >"$TMPDIR/diff" || {
            echo "$file: $(grep -c '^[+-] ' "$TMPDIR/diff") lines"
            bad=$((bad + 1))
        }
    done
    echo "$bad files differ; clang-format -i FILE mends one"
    [ $bad = 0 ]
}
