#!/usr/bin/env bash
# install.sh install|uninstall FOLDER-WITH-PROGRAMS: puts the programs, units, manual pages, completions and the book
# where PREFIX (/usr/local) and DESTDIR (nothing) say; or takes them away. Data is never touched.
set -euo pipefail

what=$1 built=$2
here=$(cd "$(dirname "$0")/.." && pwd)
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
bin=$root$prefix/bin
lib=$root$prefix/lib/mln
units=$root$prefix/lib/systemd
man=$root$prefix/share/man/man1
doc=$root$prefix/share/doc/mln
bash=$root$prefix/share/bash-completion/completions/mlnctl
# Debian's packages have it in vendor-completions, which no shell looks through below /usr/local.
zsh=$root$prefix/share/zsh/$([ "$prefix" = /usr ] && echo vendor-completions || echo site-functions)/_mlnctl
plugins=$root$prefix/share/mln/plugins
fish=$root$prefix/share/fish/vendor_completions.d/mlnctl.fish

uninstall() {
    rm -f "$bin/mlnd" "$bin/mlnctl" "$units/system/mlnd.service" "$units/user/mlnd.service" "$bash" "$zsh" "$fish"
    rm -f "$man"/mlnd.1 "$man"/mlnd-*.1 "$man"/mlnctl.1 "$man"/mlnctl-*.1
    for plugin in "$here"/examples/plugins/*.toml "$here"/examples/plugins/*.py; do
        # Those of others stay.
        rm -f "$plugins/$(basename "$plugin")"
    done
    rm -rf "$lib" "$doc"
    rmdir -p --ignore-fail-on-non-empty "$plugins" 2>/dev/null || true
}

install_all() {
    install -d "$bin" "$lib" "$units/system" "$units/user" "$man" "$doc" "$plugins" \
        "$(dirname "$bash")" "$(dirname "$zsh")" "$(dirname "$fish")"
    # Each file is put beside its place and renamed: an agent that runs keeps the one that it began with.
    for program in "mlnd:$bin" "mlnctl:$bin" "mlnd-guest:$lib"; do
        name=${program%%:*} to=${program#*:}
        install -m 755 "$built/$name" "$to/.$name.new"
        mv "$to/.$name.new" "$to/$name"
    done
    for kind in system user; do
        sed "s|@BINDIR@|$prefix/bin|" "$here/scripts/package/mlnd.$kind.service" >"$units/$kind/mlnd.service"
    done
    "$built/mlnd" manual "$man"
    "$built/mlnctl" manual "$man"
    "$built/mlnctl" completions bash >"$bash"
    "$built/mlnctl" completions zsh >"$zsh"
    "$built/mlnctl" completions fish >"$fish"
    install -m 644 "$here"/examples/plugins/*.toml "$plugins"
    install -m 755 "$here"/examples/plugins/*.py "$plugins"
    install -m 644 "$here/examples/plugins/README.md" "$doc/plugins-shipped.md"
    for page in README.md CHANGELOG.md; do install -m 644 "$here/$page" "$doc"; done
    for page in "$here"/docs/*.md; do
        # The book's own index must not hide the project's first page.
        name=$(basename "$page")
        [ "$name" = README.md ] && name=book.md
        install -m 644 "$page" "$doc/$name"
    done
    chmod 644 "$man"/mln*.1 "$bash" "$zsh" "$fish" "$units"/*/mlnd.service
}

case $what in
install) install_all ;;
uninstall) uninstall ;;
*)
    echo "install.sh: install or uninstall, not $what" >&2
    exit 64
    ;;
esac
