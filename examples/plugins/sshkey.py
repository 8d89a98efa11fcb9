#!/usr/bin/env python3
"""`sshkey FILE` in a host, or `sshkeys` in global: public keys go into authorized_keys of the guest's root."""
import json
import sys
from pathlib import Path

BYTES_MAX = 65536
request = json.load(sys.stdin)
answer = {"version": 1, "files": [], "startup": [], "diagnostics": []}
own = sorted(Path.home().glob(".ssh/id_*.pub")) if request["global"].get("sshkeys") else []
home = request["settings"].get("home", "/root")
for host in request["project"]["hosts"]:
    named = [Path(path).expanduser() for path in host["claimed"].get("sshkey", [])]
    keys = []
    for path in own + named:
        try:
            if path.stat().st_size > BYTES_MAX or not path.is_file():
                raise OSError(0, f"it is no file of at most {BYTES_MAX} bytes")
            lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        except OSError as error:
            message = f"the key {path} cannot be read: {error.strerror}"
            answer["diagnostics"].append({"severity": "error", "host": host["name"], "message": message})
            continue
        # A project from somebody else, or a slip, must not put a private key or another secret into a guest.
        if not lines or not all(line.startswith(("ssh-", "ecdsa-", "sk-", "#")) for line in lines):
            message = f"{path} holds no public keys; is {path}.pub meant?"
            answer["diagnostics"].append({"severity": "error", "host": host["name"], "message": message})
            continue
        keys += lines
    if keys:
        text = "".join(f"{key}\n" for key in keys)
        answer["files"].append(
            {"host": host["name"], "path": f"{home}/.ssh/authorized_keys", "mode": "0600", "text": text})
        answer["startup"].append({"host": host["name"], "lines": [f"chmod 700 {home} {home}/.ssh"]})
if request["global"].get("sshkeys") and not own:
    answer["diagnostics"].append({"severity": "error", "message": "there is no key in ~/.ssh; try: ssh-keygen"})
json.dump(answer, sys.stdout)
