#!/usr/bin/env python3
"""`postfix { }` of each host becomes its main.cf and its aliases."""
import json
import sys

answer = {"version": 1, "files": [], "startup": []}
for host in json.load(sys.stdin)["project"]["hosts"]:
    postfix = host["claimed"].get("postfix")
    if postfix is None:
        continue
    name, domain = host["name"], postfix.get("domain", "localdomain")
    networks = " ".join(["127.0.0.0/8", "[::1]/128", *postfix.get("network", [])])
    main = ["compatibility_level = 3.6", f"myhostname = {name}.{domain}", f"mydomain = {domain}",
            f"mydestination = {name}.{domain}, {domain}, localhost", f"mynetworks = {networks}",
            "alias_maps = hash:/etc/aliases"]
    if "relay" in postfix:
        main.append(f"relayhost = [{postfix['relay']}]")
    for path, lines in [("/etc/postfix/main.cf", main + postfix.get("main", [])),
                        ("/etc/aliases", postfix.get("aliases", []))]:
        answer["files"].append({"host": name, "path": path, "text": "".join(f"{line}\n" for line in lines)})
    answer["startup"].append({"host": name, "lines": ["newaliases", "postfix reload || postfix start"]})
json.dump(answer, sys.stdout)
