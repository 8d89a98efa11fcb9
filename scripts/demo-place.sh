# Where the demo is, and how it is taken away again. Sourced by demo.sh and demo-stop.sh.

demo=$(realpath -m "${MLN_DEMO:-${TMPDIR:-/tmp}/mln-demo-$(id -u)}")
# What is worth keeping from one demo to the next: the template.
cache=${MLN_DEMO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mln}
hosts=(oslo bergen gjovik)
# Names of network namespaces are the machine's: this demo's are told apart from another folder's.
tag=mln$(printf %s "$demo" | cksum | cut -d' ' -f1)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

has_namespaces() { [ "$(id -u)" -eq 0 ] && [ -z "${MLN_DEMO_PORTS:-}" ]; }

# Prints the processes of the demo: agents, holders and guests all work in a folder of it.
demo_processes() {
    local process folder program
    for process in /proc/[0-9]*; do
        folder=$(readlink "$process/cwd" 2>/dev/null) || continue
        case $folder in "$demo" | "$demo"/*) ;; *) continue ;; esac
        # Not somebody's shell that happens to look around in there.
        program=$(readlink "$process/exe" 2>/dev/null) || program=
        case ${program##*/} in mlnd* | linux* | *uml* | memfd* | '') echo "${process#/proc/}" ;; esac
    done
}

# Ends all processes of the demo and takes its network away; its folder stays.
stop_demo() {
    local processes round
    for round in {1..100}; do
        processes=$(demo_processes)
        [ -n "$processes" ] || break
        # shellcheck disable=SC2086 # a list of numbers
        kill -9 $processes 2>/dev/null || true
        # Until they are gone from the process table; there is no event for other people's children.
        sleep 0.05
    done
    if [ -n "$(demo_processes)" ]; then
        echo "these processes don't end: $(demo_processes | tr '\n' ' ')" >&2
        return 1
    fi
    local name
    for name in hub "${hosts[@]}"; do
        [ ! -e "/run/netns/$tag-$name" ] || ip netns del "$tag-$name"
    done
}
