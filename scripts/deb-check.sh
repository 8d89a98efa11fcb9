#!/usr/bin/env bash
# deb-check.sh PACKAGE: whether the package holds what it should, and its scripts do what they say. Where root may
# make a chroot, it is unpacked and its programs are run in there; nothing outside of a temporary folder is changed.
set -euo pipefail

package=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

wrong() {
    echo "deb-check: $*" >&2
    exit 1
}

dpkg-deb -c "$package" >"$work/list"
for path in ./usr/bin/mlnd ./usr/bin/mlnctl ./usr/lib/mln/mlnd-guest \
    ./usr/lib/systemd/system/mlnd.service ./usr/lib/systemd/user/mlnd.service \
    ./usr/share/man/man1/mlnd.1.gz ./usr/share/man/man1/mlnctl.1.gz ./usr/share/man/man1/mlnctl-status.1.gz \
    ./usr/share/bash-completion/completions/mlnctl ./usr/share/zsh/vendor-completions/_mlnctl \
    ./usr/share/fish/vendor_completions.d/mlnctl.fish ./usr/share/doc/mln/operations.md \
    ./usr/share/mln/plugins/cfengine.toml ./usr/share/mln/plugins/cfengine.py ./usr/share/doc/mln/plugins.md \
    ./usr/share/doc/mln/copyright; do
    grep -q " $path\$" "$work/list" || wrong "$path is not in the package"
done
! grep -v ' root/root ' "$work/list" || wrong "all files are root's"
for name in user-mode-linux passt e2fsprogs; do
    dpkg-deb -f "$package" Depends | grep -qw "$name" || wrong "it doesn't depend on $name"
done
dpkg-deb -f "$package" Depends | grep -q 'libc6 (>= 2\.' || wrong "it doesn't say which C library it needs"
dpkg-deb -f "$package" Recommends | grep -qw mmdebstrap || wrong "it doesn't recommend mmdebstrap"

dpkg-deb -R "$package" "$work/root"
for script in postinst prerm postrm; do
    sh -n "$work/root/DEBIAN/$script" || wrong "$script is no shell script"
done
for unit in "$work"/root/usr/lib/systemd/*/mlnd.service; do
    grep -qx 'KillMode=process' "$unit" || wrong "$unit would end guests with the agent"
    ! grep -q '@' "$unit" || wrong "$unit has a place that was not filled in"
done
if command -v systemd-analyze >/dev/null; then
    # It wants the program of a unit to be there.
    for kind in system user; do
        sed "s|/usr/bin/mlnd|$work/root/usr/bin/mlnd|" \
            "$work/root/usr/lib/systemd/$kind/mlnd.service" >"$work/mlnd-$kind.service"
        complaints=$(systemd-analyze verify --man=no "$work/mlnd-$kind.service" 2>&1 |
            grep -F "mlnd-$kind.service" || true)
        [ -z "$complaints" ] || wrong "$complaints"
    done
fi
if command -v lintian >/dev/null; then
    # Who publishes it says so by DEB_MAINTAINER; until then there is nobody to write to.
    lintian --allow-root --fail-on error --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog "$package"
fi

# Installed, upgraded, removed and purged, each in a root of its own. dpkg runs what is in there.
if [ "$(id -u)" -eq 0 ] && [ -L /bin ] && chroot / true 2>/dev/null; then
    root=$work/chroot
    mkdir -p "$root"
    # The machine's own programs, read only as far as anybody here writes: links, no copies.
    for folder in bin sbin lib lib64; do
        [ ! -L "/$folder" ] || cp -a "/$folder" "$root/"
    done
    mkdir -p "$root/usr" "$root/etc" "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/var/log" \
        "$root/tmp" "$root/dev" "$root/run" "$root/proc"
    : >"$root/var/lib/dpkg/status"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    cp -aL /etc/ld.so.cache /etc/login.defs "$root/etc/" 2>/dev/null || true
    cp "$package" "$root/tmp/mln.deb"
    # An overlay over /usr is what a package may write to; where it can't be mounted, the scripts were read at least.
    if unshare -m true 2>/dev/null && unshare -m sh -c "mkdir -p $work/up $work/down && mount -t tmpfs t $work/up &&
        mkdir $work/up/u $work/up/w &&
        mount -t overlay o -o lowerdir=/usr,upperdir=$work/up/u,workdir=$work/up/w $work/down" 2>/dev/null; then
        unshare -m bash -euc '
            work=$1 root=$2
            mount -t tmpfs t "$work/up"
            mkdir "$work/up/u" "$work/up/w"
            mount -t overlay o -o "lowerdir=/usr,upperdir=$work/up/u,workdir=$work/up/w" "$root/usr"
            mount --bind /dev "$root/dev"
            dpkg() { chroot "$root" dpkg --force-depends "$@" >>"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }
            # A systemd that only notes what it is told, and under which nothing runs.
            mkdir -p "$root/run/systemd/system" "$root/usr/local/sbin"
            printf "#!/bin/sh\necho \"\$*\" >>/tmp/told\n[ \"\$1\" != is-active ]\n" >"$root/usr/local/sbin/systemctl"
            chmod 755 "$root/usr/local/sbin/systemctl"
            was_told() { grep -qx "$1 mlnd.service" "$root/tmp/told"; }
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
            dpkg -i /tmp/mln.deb
            was_told enable || { echo "the unit is not enabled" >&2; exit 1; }
            chroot "$root" /usr/bin/mlnctl --version
            grep -q "^mln:" "$root/etc/passwd" || { echo "no user mln" >&2; exit 1; }
            grep -q control_group "$root/var/lib/mln/config.toml"
            chroot "$root" mlnd init lab --name oslo --data /var/lib/mln >/dev/null
            owner=$(stat -c %U:%a "$root/var/lib/mln/host.key")
            [ "$(chroot "$root" stat -c %U:%a /var/lib/mln/host.key)" = mln:600 ] ||
                { echo "host.key is $owner" >&2; exit 1; }
            : >"$root/tmp/told"
            dpkg -i /tmp/mln.deb
            ! was_told enable && ! was_told start || { echo "an upgrade starts what was stopped" >&2; exit 1; }
            mkdir -p "$root/var/lib/mln/vms/1-vm"
            dpkg --remove mln
            dpkg -i /tmp/mln.deb
            was_told enable && was_told start || { echo "it is not enabled again" >&2; exit 1; }
            dpkg --remove mln
            [ -e "$root/var/lib/mln/host.key" ] || { echo "removing took data" >&2; exit 1; }
            [ ! -e "$root/usr/bin/mlnd" ] || { echo "removing left the program" >&2; exit 1; }
            dpkg --purge mln
            [ -d "$root/var/lib/mln/vms/1-vm" ] || { echo "purging took a machine" >&2; exit 1; }
            dpkg -i /tmp/mln.deb
            rm -r "$root/var/lib/mln/vms" "$root"/var/lib/mln/root.key
            dpkg --purge mln
            [ ! -e "$root/var/lib/mln" ] || { echo "purging left what can be had again" >&2; exit 1; }
        ' - "$work" "$root"
        echo "deb-check: installed, removed and purged in a root of its own"
    else
        echo "deb-check: no overlay may be mounted here, so it was not installed"
    fi
fi
echo "deb-check: $(basename "$package") is in order"
