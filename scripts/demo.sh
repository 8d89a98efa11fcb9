#!/usr/bin/env bash
# Three agents on this machine, each with a folder of its own (and a network of its own when run by root), three
# routers in a ring over them, a ping over every switch.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/scripts/demo-place.sh"

bin=${MLN_BIN:-$here/target/release}
began=$EPOCHREALTIME
step_began=$began

seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }
doing() { what=$1; step_began=$EPOCHREALTIME; [ ! -t 1 ] || printf '… %s\r' "$what"; }
did() { printf '✔ %-58s %5s s\n' "${1:-$what}" "$(seconds_since "$step_began")"; }
indented() { sed 's/^/    /'; }

fail() {
    trap - EXIT INT TERM
    printf '✘ %s: %s\n' "$what" "$1" >&2
    local host
    for host in "${hosts[@]}"; do
        [ -s "$demo/$host.log" ] || continue
        echo "the last words of $host:" >&2
        tail -n 5 "$demo/$host.log" | indented >&2
    done
    stop_demo
    echo "all is stopped; what is left of it is in $demo, until the next \`make demo\` or \`make demo-stop\`" >&2
    exit 1
}
what=starting
trap 'fail "it ended early"' EXIT
trap 'fail interrupted' INT TERM

# on HOST COMMAND…: mlnctl by the agent of that host.
on() { local host=$1; shift; "$bin/mlnctl" --peer "$demo/$host/mlnd.sock" "$@"; }

# quietly COMMAND…: its output matters only when it fails.
quietly() { "$@" >"$demo/output" 2>&1 || fail "$(cat "$demo/output")"; }

# in_time SECONDS COMMAND…: until it succeeds.
in_time() {
    local from=$EPOCHREALTIME limit=$1
    shift
    until "$@" >"$demo/output" 2>&1; do
        [ "$(awk -v t="$(seconds_since "$from")" -v l="$limit" 'BEGIN { print (t > l) }')" = 0 ] ||
            fail "not within $limit s: $(cat "$demo/output")"
        sleep 0.1
    done
}

# in_network HOST COMMAND…: as on a machine of its own, where that can be had.
in_network() {
    local host=$1
    shift
    if has_namespaces; then ip netns exec "$tag-$host" "$@"; else "$@"; fi
}

make_networks() {
    ip netns add "$tag-hub"
    ip -n "$tag-hub" link add lan type bridge
    ip -n "$tag-hub" link set lan up
    local n=0 host
    for host in "${hosts[@]}"; do
        n=$((n + 1))
        ip netns add "$tag-$host"
        ip -n "$tag-$host" link set lo up
        ip -n "$tag-$host" link add eth0 type veth peer name "port$n" netns "$tag-hub"
        ip -n "$tag-hub" link set "port$n" master lan up
        ip -n "$tag-$host" address add "10.77.0.$n/24" dev eth0
        ip -n "$tag-$host" link set eth0 up
    done
}

# run_agent HOST NETWORK: its own, or that of the machine.
run_agent() {
    local host=$1 listen=/ip4/127.0.0.1/tcp/0 network=()
    if [ "$2" = own ] && has_namespaces; then
        network=(ip netns exec "$tag-$host")
        listen=/ip4/0.0.0.0/tcp/7117,/ip4/0.0.0.0/udp/7117/quic-v1
    fi
    cd "$demo/$host"
    "${network[@]}" setsid "$bin/mlnd" run --data "$demo/$host" --listen "$listen" </dev/null >>"$demo/$host.log" 2>&1 &
    agent=$!
    disown
    cd "$here"
    in_time 15 on "$host" version
}

# Connected is not enough: it must have heard what they are, or a build would not know their names.
knows_the_others() {
    [ "$(on "$1" peers --json | grep -c '"link": "up"')" -eq $((${#hosts[@]} - 1)) ] || { on "$1" peers; return 1; }
    [ "$(on "$1" daemon_status | wc -l)" -eq $((${#hosts[@]} + 2)) ] || { on "$1" daemon_status; return 1; }
}

# The table without the age of its lines, which differs by whom one asks.
table_of() { on "$1" daemon_status | awk '$1 == "Total" { print; next } { NF--; print }'; }
tables_agree() {
    local host first
    first=$(table_of "${hosts[0]}")
    for host in "${hosts[@]}"; do
        [ "$(table_of "$host")" = "$first" ] || { printf '%s\n-- but from %s\n%s\n' "$first" "$host" "$(table_of "$host")"; return 1; }
    done
    [ "$(wc -l <<<"$first")" -eq $((${#hosts[@]} + 2)) ] || { echo "$first"; return 1; }
}

# ping SWITCH FROM TO ADDRESS ASKED
ping_over() {
    local answer
    answer=$(on "$5" exec "ring/$2" -- ping -c 1 -W 5 "$4" 2>&1) || fail "$2 doesn't reach $3 over switch $1: $answer"
    printf '    switch %s  %s → %s  %-10s  %s ms\n' "$1" "$2" "$3" "$4" \
        "$(sed -n 's/.*time=\([0-9.]*\) ms.*/\1/p' <<<"$answer")"
}

what='looking around'
for program in mlnd mlnctl mlnd-guest; do
    [ -x "$bin/$program" ] || fail "$bin/$program is not built; \`make demo\` builds it"
done
if [ -e "$demo" ] && { [ ! -O "$demo" ] || [ -L "$demo" ] || [ ! -f "$demo/.mln-demo" ]; }; then
    trap - EXIT
    echo "✘ $demo is there already and no demo of yours; give another folder by MLN_DEMO" >&2
    exit 1
fi
if [ -d "$demo" ]; then
    doing 'the demo that was there is taken away'
    stop_demo
    rm -rf "$demo"
    did
fi
mkdir -m 700 "$demo"
touch "$demo/.mln-demo"

for host in "${hosts[@]}"; do
    mkdir "$demo/$host"
    printf 'groups = ["lab"]\nmemory_mib = 512\n' >"$demo/$host/config.toml"
done

# The recipe names the image: with another recipe another one is made.
image=$cache/mini-$(cat "$here"/agent/src/image/mini* | cksum | cut -d' ' -f1).img
if [ ! -f "$image" ]; then
    doing 'the template mini: 20 MB of Debian, made once'
    # The hosts' own networks don't lead to Debian's mirrors, so oslo has that of the machine first.
    quietly "$bin/mlnd" init demo --name oslo --data "$demo/oslo"
    run_agent oslo machine
    quietly on oslo template build mini
    kill "$agent"
    in_time 15 test ! -e "/proc/$agent"
    mkdir -p "$cache"
    built=$(find "$demo/oslo/images" -maxdepth 1 -name '*.img' ! -name 'agent-*' | head -n 1)
    cp --sparse=always "$built" "$image.part"
    mv "$image.part" "$image"
    did
fi

doing 'a mesh of three agents: oslo, bergen, gjovik'
! has_namespaces || make_networks
quietly "$bin/mlnd" init demo --name oslo --data "$demo/oslo"
run_agent oslo own
for host in bergen gjovik; do
    token=$(on oslo token new) || fail 'no token from oslo'
    quietly in_network "$host" "$bin/mlnd" join "$token" --name "$host" --data "$demo/$host"
    run_agent "$host" own
done
for host in "${hosts[@]}"; do in_time 20 knows_the_others "$host"; done
did
doing 'each is given the template mini'
for host in "${hosts[@]}"; do
    on "$host" template list | grep -q '^mini ' || quietly on "$host" template add mini -f "$image"
done
did

doing 'examples/ring built: three routers on three hosts'
quietly on oslo build -f "$here/examples/ring/ring.mln"
did
doing 'started, each a virtual machine with a kernel of its own'
quietly on oslo start -p ring
quietly on oslo status -p ring --wait up --timeout 60
did
on oslo status -p ring | indented

doing 'all three agents tell the same, from gossip alone'
in_time 5 tables_agree
did
on gjovik daemon_status | indented

doing 'a ping over every switch, both ways, by exec'
pings=$(
    ping_over A router1 router3 10.10.1.3 bergen
    ping_over A router3 router1 10.10.1.1 bergen
    ping_over B router2 router1 10.10.2.1 gjovik
    ping_over B router1 router2 10.10.2.2 gjovik
    ping_over C router3 router2 10.10.3.2 oslo
    ping_over C router2 router3 10.10.3.3 oslo
) || { trap - EXIT; exit 1; }
did
echo "$pings"
trap - EXIT INT TERM

cat <<END

The demo is up after $(seconds_since "$began") s. What to type next:

    export PATH=$bin:\$PATH MLN_PEER=$demo/bergen/mlnd.sock
    mlnctl status
    mlnctl exec ring/router3 -- ip address
    mlnctl stop -p ring -h router2 -w 5
    mlnctl start -p ring
    mlnctl --help

\`make demo-stop\` takes it all away.
END
