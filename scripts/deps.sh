#!/usr/bin/env bash
# Installs the Debian packages that building and running need, and only those that are missing.
# Changes nothing where all are there; says what to do where it can't. With the word `bench`, also what
# benchmarks compare with.
set -euo pipefail

# program → package; a program that is there is enough, wherever it comes from.
programs=(
    cc:gcc
    linux.uml:user-mode-linux
    mmdebstrap:mmdebstrap
    mke2fs:e2fsprogs
    ip:iproute2
    fakeroot:fakeroot
    passt:passt
    newuidmap:uidmap
    ssh:openssh-client
    python3:python3-minimal
)
if [ "${1:-}" = bench ]; then
    programs+=(uml_switch:uml-utilities resize2fs:e2fsprogs mount:mount setarch:util-linux)
    programs+=(tc:iproute2 ssh:openssh-client sshd:openssh-server rsync:rsync qemu-img:qemu-utils zstd:zstd)
    programs+=(aria2c:aria2 mktorrent:mktorrent opentracker:opentracker)
fi
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=()
for pair in "${programs[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
# The guest agent is linked statically, which needs the C library's archive.
if command -v cc >/dev/null; then
    archive=$(cc -print-file-name=libc.a)
    [ "$archive" != libc.a ] || missing+=(libc6-dev)
else
    missing+=(libc6-dev)
fi

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]} (Debian's names); this is no Debian, so please install them yourself" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "missing: ${missing[*]}; as root: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    install=("${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}")
    # A package list from long ago names files that are gone: then once more with a fresh one.
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! "${install[@]}" >"$log" 2>&1; then
        "${as_root[@]}" apt-get update -q >"$log" 2>&1 && "${install[@]}" >>"$log" 2>&1 || {
            tail -n 20 "$log" >&2
            echo "these packages could not be installed: ${missing[*]}" >&2
            exit 1
        }
    fi
fi

if ! command -v cargo >/dev/null; then
    echo "no Rust toolchain: install one (rustup, or your system's packages), at least the version that Cargo.toml names" >&2
    exit 1
fi
