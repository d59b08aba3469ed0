#!/usr/bin/env bash
# Shows that the tests bite: puts one small wrong after the other (mutants.txt) into a copy of the sources, and plays seeds of the simulator
# until one fails; what the simulator does not know is played by the conversations, and says so in its name. A wrong that nothing
# finds, or that does not fit the sources any more, is a failure.
#
#   scripts/mutants.sh [regular expression of names]      SEEDS=n: seeds for each, 100000 unless told
set -euo pipefail
cd "$(dirname "$0")/.."

# Copy and builds have a place of their own: Cargo would take what is built of the copy for what is built of the sources.
place=${CARGO_TARGET_DIR:-$PWD/target}/mutants
copy=$place/tree
rm -rf "$copy"
mkdir -p "$copy"
export CARGO_TARGET_DIR=$place/target SEEDS=${SEEDS:-100000} RUST_BACKTRACE=0
# Optimised, for most of the time goes into playing, but built quickly.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_INCREMENTAL=1
git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c | tar -xm -C "$copy"
missed=0

# Puts $3 in the place of every $2 in the file $1 of the copy.
put() {
    FROM=$2 TO=$3 perl -0pi -e '$found = s/\Q$ENV{FROM}\E/$ENV{TO}/g; END { exit !$found }' "$copy/$1"
}

# Plays the mutated copy, by the test that $1 is, and prints what fails: false if nothing does.
play() {
    (cd "$copy" && cargo test --release --quiet --test "$1") >"$copy/output" 2>&1 && return 1
    grep -om1 -E '^seed [0-9]+, client [0-9]+: [^"]{0,60}|panicked at (src|tests/conversations)[^ ]*' "$copy/output"
}

echo "without any wrong:"
(cd "$copy" && SEEDS=500 cargo test --release --quiet --test simulation >"$copy/output" 2>&1) || { cat "$copy/output"; exit 1; }
while IFS= read -r name; do
    [[ -z $name || $name == \#* ]] && continue
    read -r file && IFS= read -r from && IFS= read -r to
    [[ $name =~ ${1:-.} ]] || continue
    test=simulation
    [[ $name != *"(conversations)" ]] || test=conversations
    cp "$copy/$file" "$place/original"
    if ! put "$file" "$from" "$to"; then
        echo "DOES NOT FIT  $name"
        missed=$((missed + 1))
    elif found=$(play "$test"); then
        echo "caught        $name: $found"
    elif grep -q '^error.*could not compile' "$copy/output"; then
        echo "NOT COMPILED  $name"
        grep -m1 -A5 '^error' "$copy/output"
        missed=$((missed + 1))
    else
        echo "MISSED        $name"
        missed=$((missed + 1))
    fi
    cp "$place/original" "$copy/$file"
done <scripts/mutants.txt
exit $((missed > 0))
