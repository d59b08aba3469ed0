"""asyncpg: the extended protocol with binary values, prepared statements of its own making, COPY."""

import asyncio
from contextlib import asynccontextmanager

import asyncpg
from conversation import URL, converse, rival, running, words

BALANCES = "SELECT balance FROM accounts ORDER BY id"
CHANGE = "UPDATE accounts SET balance = balance + $1 WHERE id = $2"


@asynccontextmanager
async def session():
    connection = await asyncpg.connect(URL)
    try:
        yield connection
    finally:
        await connection.close()


async def balances():
    async with session() as connection:
        return words(await connection.fetch(BALANCES))


async def version():
    return asyncpg.__version__


async def connect():
    async with session() as connection:
        return await connection.fetchval("SHOW application_name")


async def pid():
    async with session() as connection:
        shown = await connection.fetchval("SELECT pg_backend_pid()")
        return "same" if shown == connection.get_server_pid() else "another"


async def prepared():
    async with session() as connection:
        statement = await connection.prepare("SELECT balance FROM accounts WHERE id = $1")
        return words([await statement.fetchrow(id) for id in (1, 2, 3)])


async def transaction():
    async with session() as connection:
        async with connection.transaction():
            await connection.execute(CHANGE, -10, 1)
            await connection.execute(CHANGE, 10, 2)
        undone = connection.transaction()
        await undone.start()
        await connection.execute("UPDATE accounts SET balance = 0")
        await undone.rollback()
    return await balances()


async def savepoint():
    async with session() as connection:
        async with connection.transaction():
            await connection.execute(CHANGE, -10, 1)
            try:
                async with connection.transaction():
                    await connection.execute("INSERT INTO accounts VALUES (1, 0)")
            except asyncpg.PostgresError as error:
                seen = error.sqlstate
            await connection.execute(CHANGE, 10, 2)
    return f"{seen}, then {await balances()}"


async def sqlstate(statement):
    async with session() as connection:
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            return error.sqlstate


async def unique():
    return await sqlstate("INSERT INTO accounts VALUES (1, 0)")


async def foreign_key():
    return await sqlstate("INSERT INTO payments VALUES (1, 99)")


async def abandon():
    """Cancels a task: asyncpg cancels its statement, and goes on when the server has answered."""
    async with session() as connection:
        task = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.to_thread(running)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return words(await connection.fetch(BALANCES))


async def timeout():
    async with session() as connection:
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL statement_timeout = 50")
                await connection.execute("SELECT pg_sleep(60)")
        except asyncpg.QueryCanceledError as error:
            return error.sqlstate


async def copy_in():
    async with session() as connection:
        records = [(4, 400), (5, 500)]
        await connection.copy_records_to_table("accounts", records=records, columns=["id", "balance"])
    return await balances()


async def copy_out():
    copied = bytearray()

    async def take(data):
        copied.extend(data)

    async with session() as connection:
        await connection.copy_from_query("SELECT balance FROM accounts ORDER BY id", output=take)
    return " ".join(copied.decode().split())


async def pipeline():
    async with session() as connection:
        await connection.executemany(CHANGE, [(-10, 1), (10, 2)])
    return await balances()


async def hidden():
    async with session() as connection:
        try:
            async with connection.transaction():
                # fetchval() would leave the portal suspended, next to which CockroachDB opens no other.
                count = words(await connection.fetch("SELECT count(*) FROM accounts"))
                rival()
                await connection.execute(CHANGE, -10, 1)
        except asyncpg.SerializationError as error:
            return error.sqlstate
    return f"{count} accounts, then {await balances()}"


async def spend(connection, interfere):
    """Reads a balance, and writes what it computed from it."""
    async with connection.transaction():
        [(balance,)] = await connection.fetch("SELECT balance FROM accounts WHERE id = 1")
        interfere()
        await connection.execute("UPDATE accounts SET balance = $1 WHERE id = 1", balance - 10)


async def surfaced():
    async with session() as connection:
        try:
            await spend(connection, rival)
            seen = "nothing"
        except asyncpg.PostgresError as error:
            seen = error.sqlstate
        return f"{seen}, then {words(await connection.fetch(BALANCES))}"


async def retry_loop():
    async with session() as connection:
        attempts, interfere = 0, rival
        while True:
            attempts += 1
            try:
                await spend(connection, interfere)
                return f"{attempts} attempts, then {words(await connection.fetch(BALANCES))}"
            except asyncpg.SerializationError:
                interfere = lambda: None


def blocking(check):
    def run():
        return asyncio.run(check())

    run.__name__ = check.__name__
    return run


converse([blocking(check) for check in [
    version, connect, pid, prepared, transaction, savepoint, unique, foreign_key, abandon, timeout, copy_in,
    copy_out, pipeline, hidden, surfaced, retry_loop,
]])
