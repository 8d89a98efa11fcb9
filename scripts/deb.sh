#!/usr/bin/env bash
# deb.sh FOLDER-WITH-PROGRAMS OUTPUT-FOLDER: the Debian package `mln`, with dpkg-deb alone. Prints its path.
# DEB_MAINTAINER is who publishes it, DEB_COMPRESSION what dpkg-deb packs it with, SOURCE_DATE_EPOCH the time of its changelog.
set -euo pipefail

built=$1 out=$2
maintainer=${DEB_MAINTAINER:-MLN <mln@localhost>}
here=$(cd "$(dirname "$0")/.." && pwd)
# As the program says it, so that the two can't differ.
version=$("$built/mlnctl" --version | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

umask 022
PREFIX=/usr DESTDIR=$stage "$here/scripts/install.sh" install "$built"
strip --strip-unneeded "$stage"/usr/bin/mln* "$stage"/usr/lib/mln/mlnd-guest
find "$stage/usr/share/man" -type f -exec gzip -9n {} +
doc=$stage/usr/share/doc/mln
cat >"$doc/copyright" <<END
mln: groups of virtual machines over many hosts, without a master

Copyright: the authors of MLN
License: Apache-2.0 or MIT, as you like

License: MIT
$(sed 's/^$/./; s/^/ /' "$here/LICENSE-MIT")

License: Apache-2.0
 On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.
END
printf 'mln (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -R -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y "$here/CHANGELOG.md")}")" |
    gzip -9n >"$doc/changelog.gz"

# The oldest C library that has what the programs call.
glibc=$(objdump -T "$stage"/usr/bin/mln* | grep -o 'GLIBC_[0-9][0-9.]*' | sort -Vu | tail -n 1 | cut -d_ -f2)

install -d "$stage/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 "$here/scripts/package/$script" "$stage/DEBIAN"
done
cat >"$stage/DEBIAN/control" <<END
Package: mln
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f1)
Depends: libc6 (>= $glibc), libgcc-s1, user-mode-linux, e2fsprogs, passt, passwd
Recommends: mmdebstrap, fakeroot, openssh-client, iproute2, python3
Section: admin
Priority: optional
Description: groups of virtual machines over many hosts, without a master
 A text file says which machines there are, how they are wired and where they
 run; one agent per host carries it out together with the others. Guests are
 User-Mode Linux: neither root nor KVM is needed.
END
mkdir -p "$out"
package=$out/mln_${version}_$architecture.deb
# A check needs no small package.
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$stage" "$package" >&2
echo "$package"
