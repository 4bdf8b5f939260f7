#!/bin/sh
# Runs every fuzz target for SECONDS (or those that are named) and prints how many inputs each has tried.
#
#     python3 fuzz/make_corpus.py                # once: seeds, from fixtures and $CHESTNUT_DATA
#     fuzz/run.sh 600                            # all targets, 10 minutes each
#     fuzz/run.sh 60 dicom archive
#
# Needs a nightly toolchain and a C++ compiler, not cargo-fuzz; with cargo-fuzz, `cargo +nightly fuzz run dicom` does
# the same. SANITIZER=none leaves the address sanitizer out, which is about twice as fast. Ends with 1 if a target
# found something; what it found lies in fuzz/artifacts/TARGET, and `fuzz/target/.../TARGET FILE` repeats it.
set -u
cd "$(dirname "$0")"
seconds="${1:?how many seconds for each target}"
shift
targets="${*:-$(ls fuzz_targets | sed 's/\.rs$//')}"
host="$(rustc +nightly -vV | sed -n 's/^host: //p')"
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1"
[ "${SANITIZER:-address}" = none ] || flags="$flags -Zsanitizer=${SANITIZER:-address}"
# The same versions of the dependencies as the program's.
[ Cargo.lock -nt ../Cargo.lock ] || cp ../Cargo.lock Cargo.lock
RUSTFLAGS="$flags" cargo +nightly build --release --target "$host" --bins || exit 1

found=0
for target in $targets; do
    mkdir -p "corpus/$target" "artifacts/$target"
    log="artifacts/$target/log"
    # One large input must neither take all memory nor all time.
    "target/$host/release/$target" "corpus/$target" \
        -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" >"$log" 2>&1
    code=$?
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)"
    features="$(grep -o 'ft: [0-9]*' "$log" | tail -n 1)"
    rm -rf "/dev/shm/chestnut-fuzz-"*
    if [ "$code" -eq 0 ]; then
        echo "$target: ${runs:-?} inputs in $seconds s, $features, nothing found"
    else
        found=1
        echo "$target: FOUND something after ${runs:-?} inputs (exit code $code): $(grep -m 1 'SUMMARY\|ERROR' "$log")"
        ls "artifacts/$target" | grep -v '^log$' | sed "s|^|    artifacts/$target/|"
    fi
done
exit $found
