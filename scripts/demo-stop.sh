#!/usr/bin/env bash
# Takes the demo away: guests, agents, networks, folder. Again where there is none, it changes nothing.
set -euo pipefail
. "$(dirname "$0")/demo-place.sh"

if [ ! -d "$demo" ]; then
    stop_demo
    echo "there is no demo in $demo"
    exit 0
fi
if [ ! -O "$demo" ]; then
    echo "$demo belongs to somebody else" >&2
    exit 1
fi
# A folder that is no demo of ours is left alone, whatever MLN_DEMO says.
if [ ! -f "$demo/.mln-demo" ]; then
    echo "$demo is no demo's folder: left as it is" >&2
    exit 1
fi
stop_demo
rm -rf "$demo"
echo "✔ the demo is gone; its template stays for the next one in $cache"
