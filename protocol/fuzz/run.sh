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

if [[ "$name" != language ]]; then
    # Bytes without a grammar: their corpus grows from nothing, in the target folder.
    mkdir -p "$target/corpus-$name" "$target/found"
    status=0
    "$program" -max_len=2048 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 "-artifact_prefix=$target/found/" \
        -runs="$runs" "$target/corpus-$name" >"$target/log-$name" 2>&1 || status=$?
    covered() { sed -n "s/^#[0-9]*\\t$1 *cov: \\([0-9]*\\).*/\\1/p" "$target/log-$name"; }
    echo "edges: $(covered INITED | head -1) at the start, $(covered '[A-Za-z]*' | tail -1) at the end"
    grep '^stat::' "$target/log-$name" || true
    if [[ "$status" != 0 ]]; then
        grep -a -A3 'panicked at\|ERROR: libFuzzer\|Test unit written' "$target/log-$name" >&2 || true
    fi
    exit "$status"
fi

seeds="$target/seeds"
rm -rf "$seeds"
rm -f "$target"/log.*
mkdir -p "$seeds" "$target/corpus" "$target/found"
for case in ../tests/lang/ok/*.mln ../tests/lang/wrong/*.mln ../../examples/*/*.mln; do
    cp "$case" "$seeds/$(sha256sum "$case" | cut -c1-16)"
done
# Every keyword in each of its shapes, as the reference lists them.
grep '^| `' ../../docs/language-reference.md | cut -d'|' -f2 | grep -o '`[^`]*`' | tr -d '`' \
    | sed 's/ …/ 1/; s/\[NAME\]/NAME/; s/.*/"&\\x0a"/' | sort -u >"$target/words"
printf '"no "\n"only "\n"#include a"\n"$[hostname]"\n' >>"$target/words"
options=("-dict=$target/words" -max_len=8192 -timeout=60 -rss_limit_mb=1024 -print_final_stats=1 "-artifact_prefix=$target/found/")

if [[ "$kind" == canary ]]; then
    # A corpus of its own, so that it is found anew each time.
    rm -rf "$target/corpus" "$target/found"
    mkdir -p "$target/corpus" "$target/found"
    if "$program" "${options[@]}" -seed=1 -runs="$runs" "$target/corpus" "$seeds" >"$target/log" 2>&1; then
        echo "the canary was not found in $runs executions; see $target/log" >&2
        exit 1
    fi
    grep -q 'the canary was found' "$target/log" || { tail -40 "$target/log" >&2; exit 1; }
    echo "the canary was found after $(sed -n 's/^stat::number_of_executed_units: *//p' "$target/log") executions"
    exit 0
fi
# As many at a time as there are processors: they learn from each other by the corpus.
workers="${WORKERS:-$(nproc)}"
pids=()
for ((worker = 1; worker <= workers; worker++)); do
    "$program" "${options[@]}" -seed="$((worker + RANDOM * 100))" -runs="$((runs / workers))" \
        "$target/corpus" corpus "$seeds" >"$target/log.$worker" 2>&1 &
    pids+=("$!")
done
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=$?
done
logs=("$target"/log.[0-9]*)
covered() { sed -n "s/^#[0-9]*\\t$1 *cov: \\([0-9]*\\).*/\\1/p" "${logs[@]}"; }
sum() { sed -n "s/^stat::$1: *//p" "${logs[@]}" | awk '{ sum += $1 } END { print sum + 0 }'; }
echo "edges: $(covered INITED | sort -n | head -1) at the start, $(covered '[A-Za-z]*' | sort -n | tail -1) at the end"
echo "$(sum number_of_executed_units) executions, $(sum average_exec_per_sec) in a second," \
    "at most $(sed -n 's/^stat::peak_rss_mb: *//p' "${logs[@]}" | sort -n | tail -1) MB"
if [[ "$status" != 0 ]]; then
    # What panicked, and which file in found/ shows it.
    grep -a -h -A3 'panicked at\|ERROR: libFuzzer\|Test unit written' "${logs[@]}" >&2 || true
fi
exit "$status"
