#!/bin/sh
# turns RATE: gives a turn to whoever waits for one, RATE times a second. While nobody waits, it waits itself.
ms=$((1000 / $1))
pause=$((ms / 1000)).$(printf %03d $((ms % 1000)))
mkfifo -m 666 /run/turns
mkfifo /run/silence
# Whoever waited may just have gone.
trap '' PIPE
while :; do
    echo >/run/turns
    # Nobody says anything there: a pause that starts no program.
    read -r -t "$pause" _ <>/run/silence
done
