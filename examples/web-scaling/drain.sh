#!/bin/sh
# Runs when a server shuts down, and goes on serving until nobody has called for three seconds: the balancer has taken it out of
# rotation by then. The guest's init lets it have half a minute.

# Sets `calls` to how many connections this machine has accepted.
count() {
    while read -r kind _ _ _ _ _ passive _; do
        if [ "$kind" = Tcp: ]; then calls=$passive; fi
    done </proc/net/snmp
}

before='' quiet=0
while [ "$quiet" -lt 3 ]; do
    count
    if [ "$calls" = "$before" ]; then quiet=$((quiet + 1)); else quiet=0; fi
    before=$calls
    sleep 1
done
