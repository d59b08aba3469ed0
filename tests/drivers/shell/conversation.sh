# How a program of the suite is told what to do, and tells what it saw: lines on standard input and output.
#
# It reads the name of a check, runs the function of that name, and answers with "= " and what that printed. In the
# middle of a check it may say "rival", and another client of the database changes the balance of account 1, or
# "running", and is answered when the server runs its statement. Either is answered with a line.

# The output of checks is taken by `$(...)`: what is said to the suite goes past that.
exec 3>&1

# Commands that a script of psql or pgbench can run too.
export RIVAL='echo rival >&3; read -r _'
export RUNNING='echo running >&3; read -r _'

converse() {
  local check
  while read -r check; do
    echo "= $("$check")"
  done
}
