# The recipe of the template `debian`: sh -c RECIPE debian FOLDER IMAGE BYTES PACKAGES, as root or as an ordinary user who has
# numbers of subordinate users. FOLDER holds `mln-agent.service`; PACKAGES, with commas, are installed as well. Lines on standard error that begin with "I: " are
# shown as progress.
set -eu
folder=$1 image=$2 bytes=$3 packages=${4:-}

# Its packages are configured, so that apt goes on from there: for that they need a root of their own.
if [ "$(id -u)" -eq 0 ]; then mode=root as_root=; else mode=unshare as_root=fakeroot; fi
exclude() { for path; do printf -- '--dpkgopt=path-exclude=%s ' "$path"; done; }
mmdebstrap --mode=$mode --variant=minbase --format=tar \
    --include=systemd-sysv,dropbear-bin,iproute2,iputils-ping,kmod,less,netbase,procps,udhcpc,vim-tiny${packages:+,$packages} \
    --aptopt='Acquire::Languages "none"' \
    $(exclude /usr/share/doc/\* /usr/share/man/\* /usr/share/locale/\* /usr/share/info/\* /usr/share/lintian/\* \
        /usr/share/bash-completion/\* /usr/share/bug/\* /usr/share/vim/vim90/doc/\*) \
    bookworm "$folder/root.tar"

cat >"$folder/configure" <<'END'
set -eu
folder=$1 image=$2 bytes=$3
mkdir "$folder/root"
cd "$folder/root"
tar --exclude='./dev/*' -xf "$folder/root.tar"

# The guest agent is on a drive of its own: it is never in the template.
install -m 644 "$folder/mln-agent.service" etc/systemd/system/
mkdir -p etc/systemd/system/multi-user.target.wants etc/systemd/system.conf.d etc/systemd/journald.conf.d
ln -s ../mln-agent.service etc/systemd/system/multi-user.target.wants/
ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target

# What a guest hasn't got, or hasn't got to wait for at each boot; a terminal is opened by the guest agent, and the
# serial line is its own.
for unit in getty@ serial-getty@ container-getty@ autovt@ modprobe@; do
    ln -s /dev/null "etc/systemd/system/$unit.service"
done
for unit in console-getty.service getty-static.service getty.target systemd-logind.service systemd-pstore.service \
    systemd-binfmt.service systemd-hwdb-update.service systemd-firstboot.service systemd-boot-update.service \
    systemd-journal-catalog-update.service systemd-machine-id-commit.service systemd-sysext.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-modules-load.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-journal-flush.service \
    proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount \
    e2scrub_all.timer e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer; do
    rm -f "etc/systemd/system/$unit"
    ln -s /dev/null "etc/systemd/system/$unit"
done
printf '[Manager]\nDefaultTimeoutStartSec=30s\nDefaultTimeoutStopSec=10s\n' >etc/systemd/system.conf.d/mln.conf
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n' >etc/systemd/journald.conf.d/mln.conf

# Each guest gets an identity of its own; empty says that this is no first boot of systemd's kind, which is slow.
: >etc/machine-id
rm -f var/lib/dbus/machine-id
# Copies that nobody may read, not even to put them into a file system.
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid-
rm -rf var/lib/apt/lists/* var/cache/apt/* var/log/*.log var/log/apt/* etc/apt/apt.conf.d/99mmdebstrap
echo debian >etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' >etc/hosts
: >etc/fstab
: >etc/resolv.conf
mkdir -p var/lib/mln

# IPv6 is a module of Debian's User-Mode Linux; its debug information is most of it. Where the host has another kernel,
# the guest does without.
for ipv6 in /usr/lib/uml/modules/*/kernel/net/ipv6/ipv6.ko; do
    [ -e "$ipv6" ] || continue
    source=${ipv6%/kernel/*}
    modules=lib/modules/${source##*/}
    for module in $(sed -n 's/^kernel\/net\/ipv6\/ipv6.ko: *//p' "$source/modules.dep") kernel/net/ipv6/ipv6.ko; do
        mkdir -p "$modules/${module%/*}"
        strip -g -o "$modules/$module" "$source/$module" 2>/dev/null || cp "$source/$module" "$modules/$module"
    done
done

echo "I: making the file system" >&2
truncate -s "$bytes" "$image"
# What further packages bring needs room beyond that of the usual ones, which are some 200 MB in 9,000 files.
mib=$(($(du -sm "$folder/root" | cut -f1) * 3 / 2 - 300)) inodes=$(($(find "$folder/root" | wc -l) - 12000))
if [ $mib -lt 0 ]; then mib=0; fi
if [ $inodes -lt 0 ]; then inodes=0; fi
# Small in a large sparse file: it grows while it is mounted. The journal is for guests that lose their power.
mke2fs -q -t ext4 -d "$folder/root" -O ^resize_inode -J size=4 -E lazy_itable_init=0,nodiscard \
    -L mln-debian -m 1 -N $((24576 + inodes)) "$image" $((512 + mib))M >&2
END

echo "I: configuring" >&2
$as_root sh "$folder/configure" "$folder" "$image" "$bytes"
