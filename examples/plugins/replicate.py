#!/usr/bin/env python3
"""`replicate N` in a host: N of it in all. The others have its memory, template, switches and startup lines."""
import json
import sys

MOST = 1000
answer = {"version": 1, "text": "", "set": [], "startup": [], "diagnostics": []}
for host in json.load(sys.stdin)["project"]["hosts"]:
    wanted = host["claimed"].get("replicate")
    if wanted is None:
        continue
    if not wanted.isdecimal() or not 1 <= int(wanted) <= MOST:
        message = f"`replicate {wanted}`: expected a number from 1 to {MOST}"
        answer["diagnostics"].append({"severity": "error", "host": host["name"], "message": message})
        continue
    for number in range(2, int(wanted) + 1):
        name = f"{host['name']}-{number}"
        networks = "".join(f"    network {network['name']} {{ }}\n" for network in host["networks"])
        answer["text"] += f"host {name} {{\n{networks}}}\n"
        answer["set"].append({"host": name, "keyword": "memory", "value": f"{host['memory_mib']}M"})
        for keyword in ["template", "service_host"]:
            if host[keyword] is not None:
                answer["set"].append({"host": name, "keyword": keyword, "value": host[keyword]})
        for network in host["networks"]:
            for keyword in ["switch", "bridge"]:
                if network[keyword] is not None:
                    answer["set"].append({"host": name, "network": network["name"],
                                          "keyword": keyword, "value": network[keyword]})
        if host["startup"]:
            answer["startup"].append({"host": name, "lines": host["startup"]})
json.dump(answer, sys.stdout)
