#!/bin/sh
# Answers one request: lets any of the servers in rotation answer it, and another one where that can't be reached.
#
# What nc gets from a server goes on as it is, its status line too.
read -r servers </run/rotation
# shellcheck disable=SC2086 # they are words
set -- $servers
[ $# = 0 ] || turn=$((RANDOM % $#))
while [ "${turn:-0}" -gt 0 ]; do
    first=$1
    shift
    set -- "$@" "$first"
    turn=$((turn - 1))
done

for server; do
    nc -w 2 "$server" 80 </run/request && exit
done
printf 'Status: 503 Busy\r\nContent-Type: text/plain\r\n\r\nno server answers\n'
