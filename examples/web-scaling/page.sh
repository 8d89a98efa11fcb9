#!/bin/sh
# One page of a server: 4096 bytes, read and sorted. A turn comes first; whoever gets none in four seconds is sent away.
if read -r -t 4 _ <>/run/turns; then
    read -r name </proc/sys/kernel/hostname
    printf 'Content-Type: text/plain\r\n\r\nserved by %s\n' "$name"
    exec sort /srv/page
fi
printf 'Status: 503 Busy\r\nContent-Type: text/plain\r\n\r\nbusy\n'
