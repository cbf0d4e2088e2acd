#!/bin/sh
# libhaul.so exports the functions that the public headers declare, and no
# other name; haul.h has at most 40.
set -eu
lib=$(ls "$HAUL_BUILD"/libhaul.so.*.*.*)

# Declarations as the compiler sees them, one a line; "haul_" and what stands
# before the first parenthesis behind the attributes.
declared() {
    ${CC:-cc} -E -P -Iinclude "$1" | tr '\n' ' ' | tr ';' '\n' |
        grep 'visibility("default")' |
        sed -e 's/__attribute__((visibility("default")))//g' \
            -e 's/__attribute__((warn_unused_result))//g' |
        grep -o 'haul_[a-z0-9_]* *(' | tr -d ' (' | sort
}

declared include/haul_jobs.h >"$TMPDIR/declared"
nm -D --defined-only "$lib" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' |
    sort >"$TMPDIR/exported"
echo "declared (<) but exported (>):"
diff "$TMPDIR/declared" "$TMPDIR/exported"

count=$(declared include/haul.h | wc -l)
echo "haul.h has $count functions"
[ "$count" -ge 10 ] && [ "$count" -le 40 ]
