# The recipe of the template `mini`: sh -c RECIPE mini FOLDER IMAGE BYTES, as root or under fakeroot.
# FOLDER holds `init`. Lines on standard error that begin with "I: " are shown as progress.
set -eu
folder=$1 image=$2 bytes=$3
root=$folder/root

# Nothing is run in the new root, so neither a chroot nor a mount is needed.
# chrootless is refused to root, root mode to everybody else; fakeroot looks like the first and is the second.
if [ -n "${FAKEROOTKEY:-}" ]; then mode=chrootless; else mode=root; fi
exclude() { for path; do printf -- '--dpkgopt=path-exclude=%s ' "$path"; done; }
mmdebstrap --mode=$mode --variant=extract --format=tar \
    --include=busybox-static,dropbear-bin,iproute2,base-files,base-passwd,libc6,netbase \
    $(exclude /usr/share/doc/\* /usr/share/man/\* /usr/share/locale/\* /usr/share/info/\* /usr/share/lintian/\* \
        /usr/share/bash-completion/\* /usr/share/perl5/\* /usr/lib/\*/gconv/\* /usr/share/bug/\*) \
    bookworm "$folder/root.tar"
mkdir "$root"
tar -C "$root" -xf "$folder/root.tar"

echo "I: pruning and configuring" >&2
cd "$root"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/perl5 usr/lib/*/gconv usr/lib/gconv \
    var/lib/apt var/lib/dpkg var/cache usr/bin/tc bin/tc sbin/tc sbin/devlink sbin/rdma sbin/dcb sbin/vdpa \
    lib/*/libmvec* etc/apt etc/systemd boot
mkdir -p proc sys dev run tmp mnt root home var/log var/lib/mln etc/udhcpc lib/modules
chmod 1777 tmp
chmod 700 root

# Applets fill in what the packages don't have; iproute2's ip stays.
for applet in $(bin/busybox --list-full); do
    [ -e "$applet" ] || [ -L "$applet" ] || { mkdir -p "$(dirname "$applet")"; ln -s /bin/busybox "$applet"; }
done
rm -f sbin/init linuxrc
install -m 755 "$folder/init" sbin/init

sed 's|:/bin/bash$|:/bin/sh|; s|^root:[^:]*:|root:x:|' usr/share/base-passwd/passwd.master | sed 's/:\*:/:x:/' >etc/passwd
sed 's/:\*:/:x:/' usr/share/base-passwd/group.master >etc/group
sed 's/^\([^:]*\):.*/\1:*:19000:0:99999:7:::/' etc/passwd >etc/shadow
chmod 640 etc/shadow
chown 0:42 etc/shadow
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' >etc/hosts
echo mini >etc/hostname
printf '/bin/sh\n' >etc/shells
: >etc/fstab
cat >etc/profile <<'END'
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ "$(id -u)" -eq 0 ] && PS1='\h:\w# ' || PS1='\h:\w$ '
export PATH PS1
END
cat >etc/udhcpc/default.script <<'END'
#!/bin/sh
case $1 in
deconfig) ip -4 addr flush dev "$interface"; ip link set "$interface" up ;;
bound | renew)
    ip addr replace "$ip/${mask:-24}" broadcast "${broadcast:-+}" dev "$interface"
    for gateway in $router; do ip route replace default via "$gateway" dev "$interface"; break; done
    [ -z "$dns" ] || { for server in $dns; do echo "nameserver $server"; done; } >/etc/resolv.conf
    ;;
esac
END
chmod 755 etc/udhcpc/default.script

# IPv6 is a module of Debian's User-Mode Linux; without it interfaces have no link-local addresses. Its debug
# information is most of it. Where the host has another kernel, the guest does without.
for ipv6 in /usr/lib/uml/modules/*/kernel/net/ipv6/ipv6.ko; do
    [ -e "$ipv6" ] || continue
    source=${ipv6%/kernel/*}
    modules=lib/modules/${source##*/}
    for module in $(sed -n 's/^kernel\/net\/ipv6\/ipv6.ko: *//p' "$source/modules.dep") kernel/net/ipv6/ipv6.ko; do
        mkdir -p "$modules/${module%/*}"
        strip -g -o "$modules/$module" "$source/$module" 2>/dev/null || cp "$source/$module" "$modules/$module"
    done
    grep -E '^kernel/(net/ipv6/ipv6|lib/crc-ccitt)\.ko:' "$source/modules.dep" >"$modules/modules.dep"
done

echo "I: making the file system" >&2
truncate -s "$bytes" "$image"
# The file system is small in a large sparse file: it grows while it is mounted. Its tables are written now, so
# that idle guests don't write them into their layers.
mke2fs -q -t ext4 -d "$root" -O ^has_journal,^resize_inode -E lazy_itable_init=0,nodiscard \
    -L mln-mini -m 0 -N 4096 "$image" 64M >&2
