#!/bin/sh
# Reads rules, one a line: a port of the gateway, and the host and port that answer there.
while read -r port host to; do
    nc -ll -p "$port" -e nc "$host" "$to" </dev/null >/dev/null 2>&1 &
done
