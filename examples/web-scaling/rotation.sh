#!/bin/sh
# Runs in the balancer for ever. Once a second it puts those servers into rotation that are up and have answered, takes out those
# that are not up or are gone, and tells the policy's gauge how many connections a second there were in the last five seconds.
#
# /run/rotation has the addresses of the servers; whoever answers a request reads it.

# Sets `calls` to how many connections this machine has accepted.
count() {
    while read -r kind _ _ _ _ _ passive _; do
        if [ "$kind" = Tcp: ]; then calls=$passive; fi
    done </proc/net/snmp
}

# Sets `now` to how long this machine has been running, in hundredths of a second.
clock() {
    read -r now _ </proc/uptime
    hundredths=${now#*.}
    now=$((${now%.*} * 100 + ${hundredths#0}))
}

# Sets `address` to that of a server, as the guest agent has written it down; a name server may be slow to know nothing.
locate() {
    address=''
    while read -r found name _; do
        if [ "$name" = "$1" ]; then address=$found; fi
    done </etc/hosts
}

# Sets `next` to the addresses of the servers that are up and have answered, from what mlnctl tells on standard input.
choose() {
    next=''
    while read -r server state _; do
        case $server,$state in
            web[0-9]*,up) locate "$server" ;;
            *) continue ;;
        esac
        [ -n "$address" ] || continue
        case " $rotation " in
            *" $address "*) ;;
            *) timeout 2 wget -q -O /dev/null "http://$address/" </dev/null || continue ;;
        esac
        next="${next:+$next }$address"
    done
}

mkfifo /run/pause
printf 'GET / HTTP/1.0\r\n\r\n' >/run/request
echo >/run/rotation
rotation='' waited='' round=0
count
clock
# How many connections there were at the beginning of each of the last five rounds, and when.
calls1=$calls calls2=$calls calls3=$calls calls4=$calls calls5=$calls
now1=$now now2=$now now3=$now now4=$now now5=$now
while :; do
    # While nobody says how the servers are, all stays as it is.
    if told=$(mlnctl status); then
        choose <<END
$told
END
        if [ "$next" != "$rotation" ]; then
            rotation=$next
            echo "$rotation" >/run/rotation.new
            mv /run/rotation.new /run/rotation
        fi
    fi

    # Who waits for a server from one fifth round to the next waits for one that is gone.
    round=$(((round + 1) % 5))
    if [ $round = 0 ]; then
        waits=$(pidof nc)
        for pid in $waits; do
            case " $waited " in
                *" $pid "*) kill "$pid" ;;
            esac
        done
        waited=$waits
    fi

    # A second in which no program is started: nobody says anything there.
    read -r -t 1 _ <>/run/pause
    count
    clock
    # Of the last five rounds, in hundredths of a connection a second.
    rate=$(((calls - calls1) * 10000 / (now - now1)))
    calls1=$calls2 calls2=$calls3 calls3=$calls4 calls4=$calls5 calls5=$calls
    now1=$now2 now2=$now3 now3=$now4 now4=$now5 now5=$now
    mlnctl me gauge connections "$((rate / 100)).$((rate % 100 / 10))"
done
