"""psycopg2: the simple protocol, with values put into the text by the driver."""

import io
import threading

import psycopg2
from conversation import URL, converse, rival, running, words

BALANCES = "SELECT balance FROM accounts ORDER BY id"
CHANGE = "UPDATE accounts SET balance = balance + %s WHERE id = %s"


class Session:
    """A connection with one cursor; left without an error it is committed."""

    def __enter__(self):
        self.connection = psycopg2.connect(URL)
        self.cursor = self.connection.cursor()
        return self.connection, self.cursor

    def __exit__(self, kind, *_):
        if kind is None:
            self.connection.commit()
        self.connection.close()


def rows(cursor, query, values=()):
    cursor.execute(query, values)
    return cursor.fetchall()


def balances():
    with Session() as (_, cursor):
        return words(rows(cursor, BALANCES))


def version():
    return psycopg2.__version__.split()[0]


def connect():
    with Session() as (_, cursor):
        return words(rows(cursor, "SHOW application_name"))


def pid():
    with Session() as (connection, cursor):
        shown = rows(cursor, "SELECT pg_backend_pid()")[0][0]
        return "same" if shown == connection.info.backend_pid else "another"


def prepared():
    with Session() as (_, cursor):
        cursor.execute("PREPARE balance AS SELECT balance FROM accounts WHERE id = $1")
        return words(rows(cursor, "EXECUTE balance (%s)", (id,))[0] for id in (1, 2, 3))


def transaction():
    with Session() as (connection, cursor):
        cursor.execute(CHANGE, (-10, 1))
        cursor.execute(CHANGE, (10, 2))
        connection.commit()
        cursor.execute("UPDATE accounts SET balance = 0")
        connection.rollback()
    return balances()


def savepoint():
    with Session() as (_, cursor):
        cursor.execute(CHANGE, (-10, 1))
        cursor.execute("SAVEPOINT before")
        try:
            cursor.execute("INSERT INTO accounts VALUES (1, 0)")
        except psycopg2.Error as error:
            seen = error.pgcode
            cursor.execute("ROLLBACK TO SAVEPOINT before")
        cursor.execute(CHANGE, (10, 2))
    return f"{seen}, then {balances()}"


def sqlstate(statement):
    with Session() as (connection, cursor):
        try:
            cursor.execute(statement)
        except psycopg2.Error as error:
            connection.rollback()
            return error.pgcode


def unique():
    return sqlstate("INSERT INTO accounts VALUES (1, 0)")


def foreign_key():
    return sqlstate("INSERT INTO payments VALUES (1, 99)")


def cancel():
    with Session() as (connection, cursor):
        def stop():
            running()
            connection.cancel()

        other = threading.Thread(target=stop)
        other.start()
        try:
            cursor.execute("SELECT pg_sleep(60)")
        except psycopg2.Error as error:
            connection.rollback()
            return error.pgcode
        finally:
            other.join()


def copy_in():
    with Session() as (_, cursor):
        cursor.copy_expert("COPY accounts (id, balance) FROM STDIN", io.StringIO("4\t400\n5\t500\n"))
    return balances()


def copy_out():
    copied = io.StringIO()
    with Session() as (_, cursor):
        cursor.copy_expert("COPY (SELECT balance FROM accounts ORDER BY id) TO STDOUT", copied)
    return " ".join(copied.getvalue().split())


def hidden():
    with Session() as (connection, cursor):
        try:
            count = rows(cursor, "SELECT count(*) FROM accounts")[0][0]
            rival()
            cursor.execute(CHANGE, (-10, 1))
            connection.commit()
        except psycopg2.Error as error:
            connection.rollback()
            return error.pgcode
    return f"{count} accounts, then {balances()}"


def spend(cursor, interfere):
    """Reads a balance, and writes what it computed from it."""
    balance = rows(cursor, "SELECT balance FROM accounts WHERE id = 1")[0][0]
    interfere()
    cursor.execute("UPDATE accounts SET balance = %s WHERE id = 1", (balance - 10,))


def surfaced():
    with Session() as (connection, cursor):
        try:
            spend(cursor, rival)
            seen = "nothing"
        except psycopg2.Error as error:
            seen = error.pgcode
            connection.rollback()
        return f"{seen}, then {words(rows(cursor, BALANCES))}"


def retry_loop():
    with Session() as (connection, cursor):
        attempts, interfere = 0, rival
        while True:
            attempts += 1
            try:
                spend(cursor, interfere)
                connection.commit()
                return f"{attempts} attempts, then {words(rows(cursor, BALANCES))}"
            except psycopg2.errors.SerializationFailure:
                connection.rollback()
                interfere = lambda: None


converse([
    version, connect, pid, prepared, transaction, savepoint, unique, foreign_key, cancel, copy_in, copy_out,
    hidden, surfaced, retry_loop,
])
