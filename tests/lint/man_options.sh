#!/bin/sh
# haul(1) explains every option of the library and of the command, and none
# that does not exist; libhaul(3) names every public function.
set -eu
cd "$(dirname "$0")/../.."
options=$(mktemp)
trap 'rm -f "$options"' EXIT

{
    sed -n 's/^X([A-Z_]*, [0-9]*, "\([a-z-]*\)".*/\1/p' \
        include/haul_options.def
    sed -n 's/.*{\.name = "\([a-z-]*\)".*/\1/p' cli/args.c
} | sort -u > "$options"

# An option's own paragraph is the line behind .TP that begins with it.
man=$(awk 'after && /^\.B/ {print} {after = /^\.TP/}' docs/man/haul.1 |
    sed 's/\\-/-/g' | sed -n 's/^\.[BIR]* --\([a-z-]*\).*/\1/p' | sort -u)

count=$(wc -l < "$options")
if [ "$count" -lt 20 ]; then
    echo "only $count options found in the tables: this test is broken"
    exit 1
fi
if ! printf '%s\n' "$man" | diff "$options" -; then
    echo "docs/man/haul.1: < is missing, > is no option"
    exit 1
fi

# Every NAME( outside typedefs; comments name functions only.
names=$(grep -hv '^typedef' include/haul.h include/haul_jobs.h |
    grep -o 'haul_[a-z0-9_]*(' | tr -d '(' | sort -u)
count=$(printf '%s\n' "$names" | wc -l)
if [ "$count" -lt 20 ]; then
    echo "only $count functions found in the headers: this test is broken"
    exit 1
fi
status=0
for name in $names; do
    if ! grep -q "^\.BI .*$name(" docs/man/libhaul.3; then
        echo "docs/man/libhaul.3: $name() is missing"
        status=1
    fi
done
exit $status
