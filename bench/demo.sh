#!/bin/bash
# Shows haul at work in half a minute: a dump goes to an SFTP server over a
# slow link, haul is killed half-way, the same command continues, the dump
# comes back and is compared. Everything is thrown away at the end.
#
#   bench/demo.sh [BUILD-FOLDER]      DEMO_SIZE=256mi for a shorter one
set -euo pipefail
cd "$(dirname "$0")/.."

haul=$(realpath "${HAUL:-./haul}")
build=$(realpath "${1:-$(dirname "$(realpath ./haul)")}")
size=${DEMO_SIZE:-1gi}
mbit=1000 rtt=20
dir='' pids=()

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' off=$'\e[0m'
else
    bold='' dim='' red='' green='' off=''
fi

cleanup() {
    local status=$? pid
    trap - EXIT INT TERM HUP
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ -z "$dir" ] || rm -rf "$dir"
    exit $status
}
trap cleanup EXIT
trap 'echo; exit 130' INT
trap 'exit 143' TERM HUP

die() {
    printf '\n%s%s%s\n' "$red" "$*" "$off" >&2
    if [ -s "$dir/haul.err" ]; then
        tail -n 3 "$dir/haul.err" >&2
    fi
    exit 1
}

need() {
    command -v "$1" >/dev/null || PATH=$PATH:/usr/sbin command -v "$1" \
        >/dev/null || die "$1 is missing: run 'make deps'"
}

# Room for the dump and two copies, in memory where there is plenty.
make_folder() {
    local base=${TMPDIR:-/tmp} room memory
    room=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $4}')
    memory=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
    if [ "${room:-0}" -gt 4194304 ] && [ "$memory" -gt 8388608 ] &&
        [ -w /dev/shm ]; then
        base=/dev/shm
    fi
    dir=$(mktemp -d "$base/haul-demo-XXXXXX")
    mkdir "$dir/server"
}

start_sshd() {
    local sshd
    sshd=$(PATH=$PATH:/usr/sbin command -v sshd)
    [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
    ssh-keygen -q -t ed25519 -N '' -C demo -f "$dir/host"
    ssh-keygen -q -t ed25519 -N '' -C demo -f "$dir/id"
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 12000))
        cat >"$dir/sshd_config" <<-END
		Port $port
		ListenAddress 127.0.0.1
		HostKey $dir/host
		PidFile none
		AuthorizedKeysFile $dir/id.pub
		StrictModes no
		UsePAM no
		PermitRootLogin prohibit-password
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		Subsystem sftp internal-sftp
		END
        "$sshd" -D -e -f "$dir/sshd_config" 2>"$dir/sshd.log" &
        local pid=$!
        for _ in $(seq 100); do
            if grep -q 'Server listening' "$dir/sshd.log"; then
                pids+=("$pid")
                return
            fi
            kill -0 $pid 2>/dev/null || break
            sleep 0.02
        done
        kill $pid 2>/dev/null || true
    done
    die "sshd does not start: $(tail -n 1 "$dir/sshd.log")"
}

start_link() {
    "$build/linksim" --listen 0 --to "127.0.0.1:$port" --rtt $rtt \
        --rate $((mbit * 125000)) --port-file "$dir/port" \
        --stats "$dir/stats" >/dev/null &
    link=$!
    pids+=("$link")
    while [ ! -s "$dir/port" ]; do sleep 0.01; done
    port=$(cat "$dir/port")
    echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$dir/host.pub")" \
        >"$dir/known_hosts"
    url="sftp://$(id -un)@127.0.0.1:$port$dir/server/dump.sql"
}

# Bytes that the link carried in direction $1 (up or down) so far.
carried() {
    rm -f "$dir/stats"
    kill -HUP "$link"
    while [ ! -s "$dir/stats" ]; do sleep 0.01; done
    sed 's/.*"'"$1"'":\([0-9]*\).*/\1/' "$dir/stats"
}

mb() { echo $((($1 + 500000) / 1000000)) MB; }

# Value of key $2 in the JSON object $1; fails when there is none.
field() {
    local re="\"$2\":\"?([^\",}]*)"
    [[ $1 =~ $re ]] && [ "${BASH_REMATCH[1]}" != null ] &&
        echo "${BASH_REMATCH[1]}"
}

bar() {
    local percent=$1 text=$2 full i out=''
    full=$((percent * 24 / 100))
    for ((i = 0; i < 24; i++)); do
        if ((i < full)); then out+='#'; else out+='.'; fi
    done
    printf '%s [%s] %3d %%  %s' "$label" "$out" "$percent" "$text"
}

# copy LABEL KILL-AT SOURCE TARGET [OPTION...]: runs haul, draws a bar.
# KILL-AT 0: to the end. Leaves the last object in $last, bytes in $acked.
copy() {
    local kill_at=$2 source=$3 target=$4 pid line text started=$SECONDS
    label=$1 acked=0 last=''
    shift 4
    rm -f "$dir/events"
    mkfifo "$dir/events"
    "$haul" copy --progress json --state "$dir/state.db" \
        --known-hosts "$dir/known_hosts" --ssh-config /dev/null \
        --identity "$dir/id" "$@" "$source" "$target" \
        >"$dir/events" 2>"$dir/haul.err" &
    pid=$!
    pids+=("$pid")
    while read -r line; do
        last=$line
        acked=$(field "$line" acked) || acked=0
        text=$(field "$line" rate) || text=0
        if [ -t 1 ]; then
            printf '\r'
            bar $((acked * 100 / bytes)) "$(mb "${text%.*}")/s   "
        fi
        if ((kill_at > 0 && acked >= kill_at)); then
            kill -9 "$pid"
            kill_at=-1
        fi
    done <"$dir/events"
    { wait "$pid" || true; } 2>/dev/null
    unset 'pids[-1]'
    [ ! -t 1 ] || printf '\r\e[K'
    if ((kill_at == 0)) && [ "$(field "$last" event)" != "done" ]; then
        die "haul: $(field "$last" error || tail -n 1 "$dir/haul.err")"
    elif ((kill_at > 0)); then
        die "haul ended before it could be killed"
    fi
    took=$((SECONDS - started))
}

for tool in ssh-keygen sshd cmp awk; do need "$tool"; done
[ -x "$haul" ] || die "haul is not built: run 'make'"
make_folder
start_sshd
start_link

printf '\n%shaul%s: a database dump over SFTP, %d Mbit/s and %d ms away\n\n' \
    "$bold" "$off" $mbit $rtt
"$build/mkdump" "$size" "$dir/dump.sql"
bytes=$(stat -c %s "$dir/dump.sql")
printf ' 1 dump      %s, half text as pg_dump writes it, half compressed\n' \
    "$(mb "$bytes")"

copy ' 2 upload   ' $((bytes / 2)) "$dir/dump.sql" "$url" \
    --manifest "$dir/dump.haul.json"
bar $((acked * 100 / bytes)) "${red}kill -9${off} after ${took} s"
echo
before=$(carried up)
printf '             %sunder its final name there is: %s%s\n' "$dim" \
    "$(cd "$dir/server" && ls dump.sql 2>/dev/null || echo nothing yet)" \
    "$off"

copy ' 3 again    ' 0 "$dir/dump.sql" "$url" --manifest "$dir/dump.haul.json"
sent=$(($(carried up) - before))
bar 100 "${green}done${off}, the same command"
printf '\n             continued at %s, the link carried %s more of %s\n' \
    "$(mb "$(field "$last" resumed_from || echo 0)")" "$(mb $sent)" \
    "$(mb "$bytes")"

copy ' 4 download ' 0 "$url" "$dir/back.sql"
bar 100 "${green}done${off} in ${took} s"
echo

"$haul" verify --quiet --state "$dir/state.db" "$dir/back.sql" \
    "$dir/dump.haul.json" >"$dir/verify.out" 2>"$dir/haul.err" ||
    die "haul verify: the bytes differ from the manifest"
cmp "$dir/dump.sql" "$dir/server/dump.sql" || die "the upload differs"
cmp "$dir/dump.sql" "$dir/back.sql" || die "the download differs"
printf ' 5 check     %severy byte is the same%s: %s\n\n' "$green" "$off" \
    'manifest of the upload, and cmp'
