#!/bin/sh
# What `make install` puts in place is enough for somebody else: the examples
# compile against it through pkg-config, without a warning, and run; the
# command, its pages and its completion are there; uninstall leaves nothing.
set -eu
root=$(pwd)
dest=$TMPDIR/dest
make() { env make --no-print-directory -C "$root" PREFIX=/usr \
    DESTDIR="$dest" "$@"; }

make install >"$TMPDIR/install.log" 2>&1 || {
    cat "$TMPDIR/install.log"
    exit 1
}
export PKG_CONFIG_PATH="$dest/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dest"
export LD_LIBRARY_PATH="$dest/usr/lib"
export LIBHAUL="$dest/usr/lib/libhaul.so.0"
unset XDG_STATE_HOME
export HOME="$TMPDIR/home"
mkdir "$HOME"

"$dest/usr/bin/haul" --version
head -c 30000000 /dev/urandom >"$TMPDIR/source"

# run NAME COMMAND...: the program copies SOURCE to TARGET.
run() {
    name=$1
    shift
    "$@" "$TMPDIR/source" "$TMPDIR/$name.out" >"$TMPDIR/$name.log" 2>&1 || {
        echo "$name failed:"
        cat "$TMPDIR/$name.log"
        exit 1
    }
    if ! cmp "$TMPDIR/source" "$TMPDIR/$name.out"; then
        echo "$name did not copy"
        exit 1
    fi
    echo "$name copied a file"
}

found=0
for file in docs/examples/*.c; do
    [ -f "$file" ] || continue
    found=$((found + 1))
    name=$(basename "$file" .c)
    # pkg-config's words are meant to split.
    # shellcheck disable=SC2046
    ${CC:-cc} -Wall -Wextra -Werror \
        -o "$TMPDIR/$name" "$file" $(pkg-config --cflags --libs haul) -pthread
    run "$name" "$TMPDIR/$name"
done
for file in docs/examples/*.py; do
    [ -f "$file" ] || continue
    found=$((found + 1))
    run "$(basename "$file" .py)" "${PYTHON:-python3}" "$file"
done

for page in docs/man/*.[13]; do
    [ -f "$page" ] || continue
    [ -f "$dest/usr/share/man/man${page##*.}/$(basename "$page")" ]
done
bash -n "$dest/usr/share/bash-completion/completions/haul"
[ -s "$dest/usr/share/zsh/site-functions/_haul" ]

make uninstall >/dev/null
left=$(find "$dest" ! -type d)
[ -z "$left" ] || {
    echo "left behind: $left"
    exit 1
}
[ $found -gt 0 ] || {
    echo "there are no examples"
    exit 1
}
