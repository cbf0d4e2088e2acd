#!/bin/sh
# Installs the Debian 12 packages that haul needs and that are missing:
#
#   tools/deps.sh [build] [demo] [check] [lint] [bench]
#
# Touches no network when nothing is missing. Without root and without a sudo
# that asks nothing it prints the one line to run and exits with 1.
#
# On a machine with systemd Debian starts sshd (port 22), proftpd (port 21),
# nginx or apache2 (port 80), haproxy, squid (port 3128), memcached and swift
# when it installs them. The tests need the programs only, not these services,
# and start their own on 127.0.0.1.
set -eu

build="gcc make pkg-config libc6-dev libssh-dev libcurl4-openssl-dev
    liburing-dev libxxhash-dev libsqlite3-dev libssl-dev libxml2-dev"
demo="python3 openssh-server openssh-client openssh-sftp-server openssl nginx"
check="$demo libcmocka-dev proftpd-core proftpd-mod-crypto python3-pytest
    python3-asyncssh xxhash g++ binutils apache2 haproxy squid curl
    swift-proxy swift-account swift-container swift-object memcached"
lint="clang-format cppcheck shellcheck codespell"
bench="$demo rclone lftp fio curl aria2
    swift-proxy swift-account swift-container swift-object memcached"

# Often there, and newer, from somebody else than Debian.
for program in node npm; do
    command -v $program >/dev/null || case $program in
    node) check="$check nodejs" ;;
    npm) check="$check npm" ;;
    esac
done

[ $# -gt 0 ] || set -- build

wanted=
for group; do
    case $group in
    build) wanted="$wanted $build" ;;
    demo) wanted="$wanted $demo" ;;
    check) wanted="$wanted $check" ;;
    lint) wanted="$wanted $lint" ;;
    bench) wanted="$wanted $bench" ;;
    *)
        echo "usage: $0 [build] [demo] [check] [lint] [bench]" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    echo "$0: this is not Debian; install what Debian calls$wanted" |
        tr -s ' \n' ' ' >&2
    echo >&2
    exit 1
fi

missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>&1) || :
    case " $missing " in
    *" $package "*) continue ;;
    esac
    [ "$status" = installed ] || missing="$missing $package"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    run="env"
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    run="sudo -n env"
else
    echo "$0: packages are missing; run this once:" >&2
    echo "    sudo apt-get install --no-install-recommends $missing" >&2
    exit 1
fi

# One after another with whoever else installs something.
apt() {
    $run DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# Package lists that know every missing package are new enough to try.
# Words are meant to split.
# shellcheck disable=SC2086
install() {
    apt install --no-install-recommends $missing
}

# shellcheck disable=SC2086
if ! apt-cache show --no-all-versions $missing >/dev/null 2>&1; then
    apt update
elif install; then
    exit 0
else
    apt update
fi
install
