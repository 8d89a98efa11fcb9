#!/usr/bin/env python3
"""`puppet { }` is applied in the guest; `puppet_server NAME` makes it ask a server instead."""
import json
import sys

MANIFEST = "/etc/puppet/mln.pp"
request = json.load(sys.stdin)
answer = {"version": 1, "files": [], "startup": [], "diagnostics": []}
for host in request["project"]["hosts"]:
    name, lines = host["name"], host["claimed"].get("puppet")
    server = host["claimed"].get("puppet_server", request["global"].get("puppet_server"))
    if lines is not None and "puppet_server" in host["claimed"]:
        message = "it has both `puppet` and `puppet_server`: the server is not asked"
        answer["diagnostics"].append({"severity": "warning", "host": name, "message": message})
    if lines is not None:
        answer["files"].append({"host": name, "path": MANIFEST, "text": "\n".join(lines) + "\n"})
        answer["startup"].append({"host": name, "lines": [f"puppet apply {MANIFEST} >/var/log/puppet.log 2>&1 &"]})
    elif server is not None:
        config = f"[main]\nserver = {server}\ncertname = {name}\n"
        answer["files"].append({"host": name, "path": "/etc/puppet/puppet.conf", "text": config})
        answer["startup"].append({"host": name, "lines": ["puppet agent --onetime --no-daemonize &"]})
json.dump(answer, sys.stdout)
