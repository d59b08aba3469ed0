#!/usr/bin/env bash
# pgbench in each of its ways to speak: simple, extended, prepared, and as a pipeline.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/conversation.sh"

# Runs a script once, in a mode: how many of its transactions came through.
run() {
  pgbench --no-vacuum --transactions=1 --protocol="$1" --file=<(echo "$2") "${@:3}" "$DATABASE_URL" 2>/dev/null |
    sed -nE 's|.*processed: ([0-9]+)/([0-9]+)$|\1 of \2|p'
}

balances() {
  psql --no-psqlrc --quiet --tuples-only --no-align --command='SELECT balance FROM accounts ORDER BY id' \
    "$DATABASE_URL" </dev/null | paste -sd' '
}

version() {
  pgbench --version | sed -E 's/.* ([0-9.]+).*/\1/'
}

readonly TAKE='UPDATE accounts SET balance = balance - 10 WHERE id = 1;'
readonly CALM="\\set id 1
BEGIN;
UPDATE accounts SET balance = balance - 10 WHERE id = :id;
SELECT balance FROM accounts WHERE id = :id;
COMMIT;"

calm() {
  echo "$(run "$1" "$CALM"), then $(balances)"
}

simple() { calm simple; }
extended() { calm extended; }
prepared_script() { calm prepared; }

pipelined() {
  echo "$(run extended "\\startpipeline
$CALM
\\endpipeline"), then $(balances)"
}

conflict() {
  echo "$(run "$1" "BEGIN;
SELECT $2 FROM accounts;
\\shell $RIVAL
${3-}
$TAKE
COMMIT;
${4-}"), then $(balances)"
}

hidden_simple() { conflict simple 'count(*)'; }
hidden_extended() { conflict extended 'count(*)'; }
hidden_prepared() { conflict prepared 'count(*)'; }
hidden_pipelined() { conflict extended 'count(*)' '\startpipeline' '\endpipeline'; }
surfaced_simple() { conflict simple 'sum(balance)'; }

converse
