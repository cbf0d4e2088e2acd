#!/bin/bash
# Shows haul at work in less than a minute: a dump goes to an SFTP server over
# a slow link, haul is killed half-way, the same command continues, the dump
# comes back and is compared. Then it comes from a web server with TLS, killed
# and continued too, and goes there as one PUT; last it goes to a server that
# speaks tus, in parts, killed and continued. Everything is thrown away at the
# end.
#
#   bench/demo.sh [BUILD-FOLDER]      DEMO_SIZE=256mi for a shorter one
set -euo pipefail
cd "$(dirname "$0")/.."

haul=$(realpath "${HAUL:-./haul}")
build=$(realpath "${1:-$(dirname "$(realpath ./haul)")}")
size=${DEMO_SIZE:-640mi}
mbit=1000 rtt=20 mbit_each=200
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
    mkdir "$dir/server" "$dir/www" "$dir/dav" "$dir/tus"
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

# A certificate of its own, an answer to GET and to PUT.
start_nginx() {
    local nginx kind temporary=''
    nginx=$(PATH=$PATH:/usr/sbin command -v nginx)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
        -keyout "$dir/tls.key" -out "$dir/tls.pem" 2>"$dir/openssl.log" ||
        die "openssl: $(tail -n 1 "$dir/openssl.log")"
    for kind in client_body proxy fastcgi uwsgi scgi; do
        temporary+="${kind}_temp_path $dir/tmp-$kind; "
    done
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 12000))
        cat >"$dir/nginx.conf" <<-END
		daemon off; pid $dir/nginx.pid; error_log stderr warn;
		$([ "$(id -u)" != 0 ] || echo 'user root;')
		events { worker_connections 64; }
		http {
		    access_log off; sendfile on; client_max_body_size 0;
		    default_type application/octet-stream; $temporary
		    server {
		        listen 127.0.0.1:$port ssl;
		        ssl_protocols TLSv1.3;
		        ssl_certificate $dir/tls.pem;
		        ssl_certificate_key $dir/tls.key;
		        root $dir/www;
		        location /dav/ { alias $dir/dav/; dav_methods PUT; }
		    }
		}
		END
        "$nginx" -e stderr -p "$dir" -c "$dir/nginx.conf" \
            2>"$dir/nginx.log" &
        local pid=$!
        pids+=("$pid")
        for _ in $(seq 200); do
            [ ! -s "$dir/nginx.pid" ] || return 0 # it listens by now
            kill -0 $pid 2>/dev/null || break
            sleep 0.02
        done
        kill $pid 2>/dev/null || true
        unset 'pids[-1]'
    done
    die "nginx does not start: $(tail -n 1 "$dir/nginx.log")"
}

# The scripted server of the tests, with the certificate of nginx.
start_tus() {
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 12000))
        python3 -B tests/e2e/resumable.py --port $port --store "$dir/tus" \
            --certificate "$dir/tls.pem" --key "$dir/tls.key" \
            2>"$dir/tus.log" &
        local pid=$!
        pids+=("$pid")
        for _ in $(seq 200); do
            sleep 0.02
            kill -0 $pid 2>/dev/null || break
            [ ! -s "$dir/tus.log" ] || break
            (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        done
        kill $pid 2>/dev/null || true
        unset 'pids[-1]'
    done
    die "the tus server does not start: $(tail -n 1 "$dir/tus.log")"
}

# start_link PORT [OPTION...]: a slow link to that port; its own is in $port.
start_link() {
    local to=$1
    shift
    stats=$dir/stats-${#pids[@]} # each link writes its own
    rm -f "$dir/port"
    "$build/linksim" --listen 0 --to "127.0.0.1:$to" --rtt $rtt \
        --rate $((mbit * 125000)) --port-file "$dir/port" \
        --stats "$stats" "$@" >/dev/null &
    link=$!
    pids+=("$link")
    while [ ! -s "$dir/port" ]; do sleep 0.01; done
    port=$(cat "$dir/port")
}

# Bytes that the link carried in direction $1 (up or down) so far.
carried() {
    rm -f "$stats"
    kill -HUP "$link"
    while [ ! -s "$stats" ]; do sleep 0.01; done
    sed 's/.*"'"$1"'":\([0-9]*\).*/\1/' "$stats"
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
# KILL-AT 0: to the end. Leaves the last object in $last, bytes in $acked, and
# in $sent those that were on their way when nothing was confirmed.
copy() {
    local kill_at=$2 source=$3 target=$4 pid line text moved begin
    label=$1 acked=0 sent=0 last='' begin=${EPOCHREALTIME/[.,]/}
    shift 4
    rm -f "$dir/events"
    mkfifo "$dir/events"
    "$haul" copy --progress json --state "$dir/state.db" "$@" \
        "$source" "$target" >"$dir/events" 2>"$dir/haul.err" &
    pid=$!
    pids+=("$pid")
    while read -r line; do
        last=$line
        text=$(field "$line" acked) || continue # an event of another kind
        acked=$text
        text=$(field "$line" rate) || text=0
        text="$(mb "${text%.*}")/s"
        moved=$acked
        if [ "$(field "$line" late)" = true ]; then
            moved=$(field "$line" sent) || moved=0
            ((acked > 0)) || sent=$moved
            text+=', unconfirmed'
        fi
        if [ -t 1 ]; then
            printf '\r'
            bar $((moved * 100 / bytes)) "$text   "
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
    took=$(((${EPOCHREALTIME/[.,]/} - begin + 500000) / 1000000))
}

# continued BYTES: where the second run of a copy began, what it moved.
continued() {
    printf '\n             continued at %s, the link carried %s more of %s\n' \
        "$(mb "$(field "$last" resumed_from || echo 0)")" "$(mb "$1")" \
        "$(mb "$bytes")"
}

over_sftp() {
    local url before ssh
    start_sshd
    start_link "$port"
    echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$dir/host.pub")" \
        >"$dir/known_hosts"
    url="sftp://$(id -un)@127.0.0.1:$port$dir/server/dump.sql"
    ssh=(--known-hosts "$dir/known_hosts" --ssh-config /dev/null
        --identity "$dir/id")

    copy ' 2 upload   ' $((bytes / 2)) "$dir/dump.sql" "$url" "${ssh[@]}" \
        --manifest "$dir/dump.haul.json"
    bar $((acked * 100 / bytes)) "${red}kill -9${off} after ${took} s"
    echo
    before=$(carried up)
    printf '             %sunder its final name there is: %s%s\n' "$dim" \
        "$(cd "$dir/server" && ls dump.sql 2>/dev/null || echo nothing yet)" \
        "$off"

    copy ' 3 again    ' 0 "$dir/dump.sql" "$url" "${ssh[@]}" \
        --manifest "$dir/dump.haul.json"
    bar 100 "${green}done${off}, the same command"
    continued $(($(carried up) - before))

    copy ' 4 download ' 0 "$url" "$dir/back.sql" "${ssh[@]}"
    bar 100 "${green}done${off} in ${took} s"
    echo

    "$haul" verify --quiet --state "$dir/state.db" "$dir/back.sql" \
        "$dir/dump.haul.json" >"$dir/verify.out" 2>"$dir/haul.err" ||
        die "haul verify: the bytes differ from the manifest"
    cmp "$dir/dump.sql" "$dir/server/dump.sql" || die "the upload differs"
    cmp "$dir/dump.sql" "$dir/back.sql" || die "the download differs"
    rm "$dir/server/dump.sql" "$dir/back.sql"
    printf ' 5 check     %severy byte is the same%s: %s\n\n' "$green" "$off" \
        'manifest of the upload, and cmp'
}

over_https() {
    local url before nginx tls=(--cacert "$dir/tls.pem")
    start_nginx
    nginx=$port
    ln "$dir/dump.sql" "$dir/www/dump.sql"
    start_link "$nginx" --conn-rate $((mbit_each * 125000))
    url="https://127.0.0.1:$port"

    copy ' 6 download ' $((bytes / 2)) "$url/dump.sql" "$dir/back.sql" \
        "${tls[@]}"
    bar $((acked * 100 / bytes)) "${red}kill -9${off} after ${took} s"
    echo
    before=$(carried down)
    copy ' 7 again    ' 0 "$url/dump.sql" "$dir/back.sql" "${tls[@]}"
    bar 100 "${green}done${off} over $(field "$last" connections) connections"
    continued $(($(carried down) - before))

    start_link "$nginx"
    url="https://127.0.0.1:$port/dav"
    copy ' 8 PUT      ' 0 "$dir/dump.sql" "$url/dump.sql" "${tls[@]}"
    bar 100 "${green}done${off}, the answer was $(field "$last" status)"
    printf '\n             %suntil the answer: %s sent, unconfirmed%s\n' \
        "$dim" "$(mb "$sent")" "$off"

    cmp "$dir/dump.sql" "$dir/back.sql" || die "the download differs"
    cmp "$dir/dump.sql" "$dir/dav/dump.sql" || die "the upload differs"
    printf ' 9 check     %severy byte is the same%s: cmp\n\n' "$green" "$off"
}

over_tus() {
    local url before answer tls=(--cacert "$dir/tls.pem")
    rm "$dir/back.sql" "$dir/dav/dump.sql"
    start_tus
    start_link "$port" --conn-rate $((mbit_each * 125000))
    url="tus+https://127.0.0.1:$port/files"

    copy '10 upload   ' $((bytes / 2)) "$dir/dump.sql" "$url" "${tls[@]}"
    bar $((acked * 100 / bytes)) "${red}kill -9${off} after ${took} s"
    sleep 0.3 # until the link is empty
    printf '\n             %sthe server keeps %s in %d parts%s\n' "$dim" \
        "$(mb "$(cat "$dir"/tus/* | wc -c)")" \
        "$(find "$dir/tus" -type f -size +0 | wc -l)" "$off"
    before=$(carried up)
    copy '11 again    ' 0 "$dir/dump.sql" "$url" "${tls[@]}"
    bar 100 "${green}done${off}, joined by the server"
    continued $(($(carried up) - before))

    answer=$(field "$last" location) || die "the server named no upload"
    # The server has joined names, not bytes.
    cat "$dir/tus/${answer##*/}".* | cmp "$dir/dump.sql" - ||
        die "the upload differs"
    printf '12 check     %severy byte is the same%s: cmp\n\n' "$green" "$off"
}

for tool in ssh-keygen sshd openssl nginx python3 cmp awk; do need "$tool"; done
[ -x "$haul" ] || die "haul is not built: run 'make'"
make_folder

printf '\n%shaul%s: a database dump over SFTP, %d Mbit/s and %d ms away\n\n' \
    "$bold" "$off" $mbit $rtt
"$build/mkdump" "$size" "$dir/dump.sql"
bytes=$(stat -c %s "$dir/dump.sql")
printf ' 1 dump      %s, half text as pg_dump writes it, half compressed\n' \
    "$(mb "$bytes")"
over_sftp
printf '%sand over HTTPS%s, a download has %d Mbit/s for each connection\n\n' \
    "$bold" "$off" $mbit_each
over_https
printf '%sand with tus%s, an upload in parts, which a server joins\n\n' \
    "$bold" "$off"
over_tus
