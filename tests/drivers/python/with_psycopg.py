"""psycopg 3: a connection a check; the server side of prepared statements, COPY and libpq's pipeline mode."""

import logging
import threading

import psycopg
from conversation import URL, converse, rival, running, words

# It warns of pipelines that are left by an error, as one here is without Reprise.
logging.getLogger("psycopg").setLevel(logging.ERROR)

BALANCES = "SELECT balance FROM accounts ORDER BY id"
CHANGE = "UPDATE accounts SET balance = balance + %s WHERE id = %s"


def session(**options):
    return psycopg.connect(URL, **options)


def balances():
    with session() as connection:
        return words(connection.execute(BALANCES))


def version():
    return f"{psycopg.__version__} (libpq {psycopg.pq.version_pretty(psycopg.pq.version())})"


def connect():
    with session() as connection:
        return connection.execute("SHOW application_name").fetchone()[0]


def pid():
    with session() as connection:
        shown = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        return "same" if shown == connection.info.backend_pid else "another"


def prepared():
    with session() as connection:
        query = "SELECT balance FROM accounts WHERE id = %s"
        return words(connection.execute(query, (id,), prepare=True).fetchone() for id in (1, 2, 3))


def transaction():
    with session(autocommit=True) as connection:
        with connection.transaction():
            connection.execute(CHANGE, (-10, 1))
            connection.execute(CHANGE, (10, 2))
        with connection.transaction():
            connection.execute("UPDATE accounts SET balance = 0")
            raise psycopg.Rollback
    return balances()


def savepoint():
    with session() as connection:
        connection.execute(CHANGE, (-10, 1))
        try:
            with connection.transaction():
                connection.execute("INSERT INTO accounts VALUES (1, 0)")
        except psycopg.Error as error:
            seen = error.sqlstate
        connection.execute(CHANGE, (10, 2))
    return f"{seen}, then {balances()}"


def sqlstate(statement):
    with session() as connection:
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            return error.sqlstate


def unique():
    return sqlstate("INSERT INTO accounts VALUES (1, 0)")


def foreign_key():
    return sqlstate("INSERT INTO payments VALUES (1, 99)")


def cancel():
    with session() as connection:
        def stop():
            running()
            connection.cancel_safe()

        other = threading.Thread(target=stop)
        other.start()
        try:
            connection.execute("SELECT pg_sleep(60)")
        except psycopg.errors.QueryCanceled as error:
            return error.sqlstate
        finally:
            other.join()


def copy_in():
    with session() as connection:
        with connection.cursor().copy("COPY accounts (id, balance) FROM STDIN") as copy:
            copy.write_row((4, 400))
            copy.write_row((5, 500))
    return balances()


def copy_out():
    with session() as connection:
        with connection.cursor().copy("COPY (SELECT balance FROM accounts ORDER BY id) TO STDOUT") as copy:
            return words(copy.rows())


def pipeline():
    with session() as connection, connection.pipeline():
        connection.execute(CHANGE, (-10, 1))
        connection.execute(CHANGE, (10, 2))
        return words(connection.execute(BALANCES))


def hidden():
    with session() as connection:
        try:
            count = connection.execute("SELECT count(*) FROM accounts").fetchone()[0]
            rival()
            connection.execute(CHANGE, (-10, 1))
            connection.commit()
        except psycopg.errors.SerializationFailure as error:
            return error.sqlstate
    return f"{count} accounts, then {balances()}"


def hidden_pipeline():
    with session() as connection:
        try:
            with connection.pipeline():
                count = connection.execute("SELECT count(*) FROM accounts").fetchone()[0]
                rival()
                connection.execute(CHANGE, (-10, 1))
                connection.execute(CHANGE, (0, 2))
                connection.commit()
        except psycopg.errors.SerializationFailure as error:
            return error.sqlstate
    return f"{count} accounts, then {balances()}"


def spend(connection, interfere):
    """Reads a balance, and writes what it computed from it."""
    with connection.transaction():
        balance = connection.execute("SELECT balance FROM accounts WHERE id = 1").fetchone()[0]
        interfere()
        connection.execute("UPDATE accounts SET balance = %s WHERE id = 1", (balance - 10,))


def surfaced():
    with session(autocommit=True) as connection:
        try:
            spend(connection, rival)
            seen = "nothing"
        except psycopg.Error as error:
            seen = error.sqlstate
        return f"{seen}, then {words(connection.execute(BALANCES))}"


def retry_loop():
    with session(autocommit=True) as connection:
        attempts, interfere = 0, rival
        while True:
            attempts += 1
            try:
                spend(connection, interfere)
                return f"{attempts} attempts, then {words(connection.execute(BALANCES))}"
            except psycopg.errors.SerializationFailure:
                interfere = lambda: None


converse([
    version, connect, pid, prepared, transaction, savepoint, unique, foreign_key, cancel, copy_in, copy_out,
    pipeline, hidden, hidden_pipeline, surfaced, retry_loop,
])
