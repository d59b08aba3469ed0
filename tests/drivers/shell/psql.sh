#!/usr/bin/env bash
# psql: scripts of the simple protocol, \copy, FETCH_COUNT, and Ctrl-C.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/conversation.sh"

readonly BALANCES='SELECT balance FROM accounts ORDER BY id;'

# Runs a script: values only, of errors only the SQLSTATE, and no file of the user's. Standard input stays the suite's.
run() {
  psql --no-psqlrc --quiet --tuples-only --no-align --set=VERBOSITY=sqlstate --file=<(echo "$1") "$DATABASE_URL" 2>&1
}

# What a script printed as one line, and of an error only its SQLSTATE.
words() {
  sed -E 's/^psql:[^ ]* (ERROR|FATAL): *//' | paste -sd' '
}

version() {
  psql --version | sed -E 's/.* ([0-9.]+).*/\1/'
}

connect() {
  run 'SHOW application_name'
}

prepared() {
  run 'PREPARE balance AS SELECT balance FROM accounts WHERE id = $1;
    EXECUTE balance (1); EXECUTE balance (2); EXECUTE balance (3);' | words
}

transaction() {
  run "BEGIN; UPDATE accounts SET balance = balance - 10 WHERE id = 1;
    UPDATE accounts SET balance = balance + 10 WHERE id = 2; COMMIT;
    BEGIN; UPDATE accounts SET balance = 0; ROLLBACK; $BALANCES" | words
}

savepoint() {
  run "\\set ON_ERROR_ROLLBACK on
    BEGIN; UPDATE accounts SET balance = balance - 10 WHERE id = 1;
    INSERT INTO accounts VALUES (1, 0);
    UPDATE accounts SET balance = balance + 10 WHERE id = 2; COMMIT;
    \\echo , then
    $BALANCES" | words | sed 's/ ,/,/'
}

unique() {
  run 'INSERT INTO accounts VALUES (1, 0);' | words
}

foreign_key() {
  run 'INSERT INTO payments VALUES (1, 99);' | words
}

# Runs a script, and presses Ctrl-C when the server runs its statement.
interrupted() {
  # A shell lets what it runs in the background ignore Ctrl-C, unless it controls jobs.
  set -m
  run "$1" </dev/null &
  set +m
  eval "$RUNNING"
  kill -INT -- "-$!"
  wait "$!" || true
}

cancel() {
  interrupted 'SELECT pg_sleep(60);' | words | sed 's/^Cancel request sent //'
}

copy_in() {
  run "\\copy accounts (id, balance) FROM PROGRAM 'printf \"4\\t400\\n5\\t500\\n\"'
    $BALANCES" | words
}

copy_out() {
  run '\copy (SELECT balance FROM accounts ORDER BY id) TO STDOUT' | words
}

cursor() {
  run "\\set FETCH_COUNT 1
    $BALANCES" | words
}

hidden() {
  local seen
  seen=$(run "BEGIN; SELECT count(*) FROM accounts;
    \\! $RIVAL
    UPDATE accounts SET balance = balance - 10 WHERE id = 1; COMMIT;" | words)
  if [[ $seen == 3\ 40001 ]]; then
    echo 40001
  else
    echo "$seen accounts, then $(run "$BALANCES" | words)"
  fi
}

# Reads the balance, and writes what was computed from it; whatever $1 is happens in between.
spend() {
  run "BEGIN; SELECT balance FROM accounts WHERE id = 1 \\gset
    \\! $1
    UPDATE accounts SET balance = :balance - 10 WHERE id = 1; COMMIT;" | words
}

surfaced() {
  echo "$(spend "$RIVAL"), then $(run "$BALANCES" | words)"
}

retry_loop() {
  local attempts=1
  if [[ $(spend "$RIVAL") == 40001 ]]; then
    attempts=2
    spend true >/dev/null
  fi
  echo "$attempts attempts, then $(run "$BALANCES" | words)"
}

converse
