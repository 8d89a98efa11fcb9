#!/bin/sh
# Decides where a wanderer goes: to the service host after this one, of those that its policy names. What there is comes as
# JSON on standard input; the decision goes to standard output.
told=$(cat)
here=$(printf '%s' "$told" | sed 's/.*"service_host":"\([^"]*\)".*/\1/')
allowed=$(printf '%s' "$told" | sed 's/.*"may_move":\[\([^]]*\)\].*/\1/' | tr -d '"' | tr ',' ' ')

first='' next='' is_next=no
for host in $allowed; do
    : "${first:=$host}"
    if [ $is_next = yes ]; then
        next=$host
        break
    fi
    if [ "$host" = "$here" ]; then is_next=yes; fi
done

printf '{"decision": "move", "to": "%s", "reason": "walks on from %s"}\n' "${next:-$first}" "$here"
