#!/usr/bin/env bash
# Fuzzes with coverage guidance, on stable Rust: `run.sh RUNS [canary|wire|node]`, without a word the language.
# The corpus grows in the target folder; what is committed and all golden cases are its seeds.
set -euo pipefail
cd "$(dirname "$0")"
runs="$1"
kind="${2:-}"
triple="$(rustc -vV | sed -n 's/^host: //p')"
target="${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz"
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
# Not -sanitizer-coverage-trace-compares: it takes more than half of the time, and the dictionary knows the words.
flags+=" -Ccodegen-units=1"
if [[ "$kind" == canary ]]; then
    flags+=" --cfg mln_fuzz_canary"
    target+="-canary"
fi
name=language
if [[ "$kind" == wire || "$kind" == node ]]; then
    name="$kind"
fi
RUSTFLAGS="$flags" CARGO_TARGET_DIR="$target" cargo build --locked --release --target "$triple" --bin "$name" >&2
program="$target/$triple/release/$name"

# Of the language the seeds are what is committed and all golden cases. Bytes without a grammar have none.
seeds="$target/seeds-$name"
log="$target/log-$name"
corpus="$target/corpus-$name"
if [[ "$name" == language ]]; then
    corpus="$target/corpus"
fi
rm -rf "$seeds"
rm -f "$log".*
mkdir -p "$seeds" "$corpus" "$target/found"
options=(-rss_limit_mb=1024 -print_final_stats=1 "-artifact_prefix=$target/found/")
case "$name" in
wire)
    options+=(-max_len=2048 -timeout=10)
    ;;
node)
    # Long scripts from the start: each byte is about one thing that happens, and what is deep takes many of them.
    options+=(-max_len=192 -len_control=0 -timeout=10)
    ;;
language)
    cp corpus/* "$seeds"
    for case in ../tests/lang/ok/*.mln ../tests/lang/wrong/*.mln ../../examples/*/*.mln; do
        cp "$case" "$seeds/$(sha256sum "$case" | cut -c1-16)"
    done
    # Every keyword in each of its shapes, as the reference lists them.
    grep '^| `' ../../docs/language-reference.md | cut -d'|' -f2 | grep -o '`[^`]*`' | tr -d '`' \
        | sed 's/ …/ 1/; s/\[NAME\]/NAME/; s/.*/"&\\x0a"/' | sort -u >"$target/words"
    printf '"no "\n"only "\n"#include a"\n"$[hostname]"\n' >>"$target/words"
    options+=("-dict=$target/words" -max_len=8192 -timeout=60)
    ;;
esac

if [[ "$kind" == canary ]]; then
    # A corpus of its own, so that it is found anew each time.
    rm -rf "$corpus" "$target/found"
    mkdir -p "$corpus" "$target/found"
    if "$program" "${options[@]}" -seed=1 -runs="$runs" "$corpus" "$seeds" >"$log" 2>&1; then
        echo "the canary was not found in $runs executions; see $log" >&2
        exit 1
    fi
    grep -q 'the canary was found' "$log" || { tail -40 "$log" >&2; exit 1; }
    echo "the canary was found after $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
    exit 0
fi
# As many at a time as there are processors: they learn from each other by the corpus.
workers="${WORKERS:-$(nproc)}"
pids=()
for ((worker = 1; worker <= workers; worker++)); do
    "$program" "${options[@]}" -seed="$((worker + RANDOM * 100))" -runs="$(((runs + workers - 1) / workers))" \
        "$corpus" "$seeds" >"$log.$worker" 2>&1 &
    pids+=("$!")
done
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=$?
done
logs=("$log".[0-9]*)
covered() { sed -n "s/^#[0-9]*\\t$1 *cov: \\([0-9]*\\).*/\\1/p" "${logs[@]}"; }
sum() { sed -n "s/^stat::$1: *//p" "${logs[@]}" | awk '{ sum += $1 } END { print sum + 0 }'; }
echo "edges: $(covered INITED | sort -n | head -1) at the start, $(covered '[A-Za-z]*' | sort -n | tail -1) at the end"
echo "$(sum number_of_executed_units) executions, $(sum average_exec_per_sec) in a second," \
    "at most $(sed -n 's/^stat::peak_rss_mb: *//p' "${logs[@]}" | sort -n | tail -1) MB"
# What the target itself says that it did, each worker its own.
for one in "${logs[@]}"; do
    grep -a '^scripts: ' "$one" | tail -1 || true
done
if [[ "$status" != 0 ]]; then
    # What panicked, and which file in found/ shows it.
    grep -a -h -A3 'panicked at\|ERROR: libFuzzer\|Test unit written' "${logs[@]}" >&2 || true
fi
exit "$status"
