#!/usr/bin/env python3
"""`vhost NAME { }` of each host becomes one of Apache's virtual hosts."""
import json
import sys


def section(vhost):
    yield f"<VirtualHost *:{vhost.get('port', 80)}>"
    yield f"    ServerName {vhost['name']}"
    yield from (f"    ServerAlias {alias}" for alias in vhost.get("alias", []))
    yield f"    DocumentRoot {vhost['root']}"
    options = "+Indexes" if vhost.get("index") else "-Indexes"
    yield f"    <Directory {vhost['root']}>"
    yield f"        Options {options}"
    yield "        Require all granted"
    yield "    </Directory>"
    yield from (f"    {line}" for line in vhost.get("extra", []))
    yield "</VirtualHost>"


request = json.load(sys.stdin)
path = request["settings"].get("file", "/etc/apache2/sites-enabled/mln.conf")
answer = {"version": 1, "files": [], "startup": [], "diagnostics": []}
for host in request["project"]["hosts"]:
    vhosts = host["claimed"].get("vhost", [])
    for vhost in vhosts:
        if "root" not in vhost:
            message = f"the vhost {vhost['name']} has no `root`"
            answer["diagnostics"].append({"severity": "error", "host": host["name"], "message": message})
    if not vhosts or answer["diagnostics"]:
        continue
    ports = sorted({int(vhost.get("port", 80)) for vhost in vhosts} - {80})
    lines = [f"Listen {port}" for port in ports] + [line for vhost in vhosts for line in section(vhost)]
    answer["files"].append({"host": host["name"], "path": path, "mode": "0644", "text": "\n".join(lines) + "\n"})
    answer["startup"].append({"host": host["name"], "lines": ["apachectl graceful"]})
json.dump(answer, sys.stdout)
