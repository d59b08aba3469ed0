"""How a program of the suite is told what to do, and tells what it saw: lines on standard input and output.

It reads the name of a check, runs it, and answers with "= " and its observation. In the middle of a check it may
say "rival", and another client of the database changes the balance of account 1, or "running", and is answered
when the server runs its statement. Either is answered with a line.
"""

import os
import sys

URL = os.environ["DATABASE_URL"]
ON_DOUBLE = os.environ["TARGET"] == "double"


def ask(word):
    print(word, flush=True)
    sys.stdin.readline()


def rival():
    """Lets another client add 1 to the balance of account 1, and commit."""
    ask("rival")


def running():
    """Waits until the server runs the statement that is to be cancelled."""
    ask("running")


def converse(checks):
    """Runs the checks that it is told to, by the names of their functions."""
    checks = {check.__name__: check for check in checks}
    for line in sys.stdin:
        print("=", checks[line.strip()](), flush=True)


def words(rows):
    """The first column of rows, as one text."""
    return " ".join(str(row[0]) for row in rows)
