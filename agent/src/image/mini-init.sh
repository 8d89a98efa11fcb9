#!/bin/sh
# The first process of a guest made from the template `mini`: mounts what is needed, keeps the guest agent
# running, and shuts down when the host asks (ctrl-alt-del) or a command like poweroff does.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/mln/agent /run/lock

# Before any interface is up, so that each gets its link-local address.
modprobe ipv6 2>/dev/null

# Without this the kernel restarts at once when ctrl-alt-del is pressed.
echo 0 >/proc/sys/kernel/ctrl-alt-del

# Whether there is a process but this one; those of the kernel have no program.
others() {
    for process in /proc/[0-9]*; do
        [ "$process" != /proc/1 ] && [ -e "$process/exe" ] && return 0
    done
    return 1
}

# The project's shutdown lines have half a minute, and come before all else.
shutdown_lines() {
    [ -e /run/mln/shutdown ] || return 0
    timeout -s KILL 30 /bin/sh /run/mln/shutdown || echo "init: the shutdown lines ended with status $?" >&2
}

shut_down() {
    # Who asks twice gets one shutdown. Not ignored, which what is started here would inherit.
    trap : INT TERM USR1 USR2
    shutdown_lines
    trap '' INT TERM USR1 USR2
    kill -TERM -1
    tries=0
    while [ $tries -lt 20 ] && others; do
        tries=$((tries + 1))
        sleep 0.05
    done
    kill -KILL -1
    sync
    swapoff -a 2>/dev/null
    if [ -e /run/mln/mounted ]; then
        while read -r at; do umount "$at" || mount -o remount,ro "$at"; done </run/mln/mounted 2>/dev/null
    fi
    mount -o remount,ro / 2>/dev/null
    "$1" -f
}
trap 'shut_down poweroff' INT USR2
trap 'shut_down halt' USR1
trap 'shut_down reboot' TERM

mount -t ext4 -o ro "${MLN_AGENT:-/dev/ubdc}" /run/mln/agent || echo "init: no drive with a guest agent" >&2
while :; do
    /run/mln/agent/mlnd guest </dev/null &
    wait $!
    echo "init: the guest agent ended with status $?" >&2
    sleep 1
done
