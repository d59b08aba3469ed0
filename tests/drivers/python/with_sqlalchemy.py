"""SQLAlchemy's ORM on psycopg, with a pool of connections; on CockroachDB with the dialect made for it."""

import sqlalchemy
from conversation import ON_DOUBLE, URL, converse, rival, words
from sqlalchemy import ForeignKey, create_engine, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[int] = mapped_column(ForeignKey("accounts.id"))


DIALECT = "cockroachdb+psycopg" if ON_DOUBLE else "postgresql+psycopg"
Session = sessionmaker(create_engine(URL.replace("postgres", DIALECT, 1), pool_size=2))


def change(id, amount):
    return update(Account).where(Account.id == id).values(balance=Account.balance + amount)


def balances():
    with Session() as session:
        return words(session.execute(select(Account.balance).order_by(Account.id)))


def version():
    return sqlalchemy.__version__


def connect():
    with Session() as session:
        return session.scalar(text("SHOW application_name"))


def prepared():
    with Session() as session:
        return " ".join(str(session.get(Account, id).balance) for id in (1, 2, 3))


def transaction():
    with Session.begin() as session:
        session.get(Account, 1).balance -= 10
        session.get(Account, 2).balance += 10
    with Session() as session:
        session.execute(update(Account).values(balance=0))
        session.rollback()
    return balances()


def savepoint():
    with Session.begin() as session:
        session.execute(change(1, -10))
        try:
            with session.begin_nested():
                session.add(Account(id=1, balance=0))
        except IntegrityError as error:
            seen = error.orig.sqlstate
        session.execute(change(2, 10))
    return f"{seen}, then {balances()}"


def sqlstate(row):
    try:
        with Session.begin() as session:
            session.add(row)
    except DBAPIError as error:
        return error.orig.sqlstate


def unique():
    return sqlstate(Account(id=1, balance=0))


def foreign_key():
    return sqlstate(Payment(id=1, account=99))


def timeout():
    try:
        with Session.begin() as session:
            session.execute(text("SET LOCAL statement_timeout = 50"))
            session.execute(text("SELECT pg_sleep(60)"))
    except OperationalError as error:
        return error.orig.sqlstate


def batch():
    with Session.begin() as session:
        session.add_all([Account(id=4, balance=400), Account(id=5, balance=500)])
    return balances()


def hidden():
    try:
        with Session.begin() as session:
            count = session.scalar(select(func.count()).select_from(Account))
            rival()
            session.execute(change(1, -10))
    except OperationalError as error:
        return error.orig.sqlstate
    return f"{count} accounts, then {balances()}"


def spend(interfere):
    """Reads an account, and writes what it computed from its balance."""
    with Session.begin() as session:
        account = session.get(Account, 1)
        interfere()
        account.balance -= 10


def surfaced():
    try:
        spend(rival)
        seen = "nothing"
    except OperationalError as error:
        seen = error.orig.sqlstate
    return f"{seen}, then {balances()}"


def retry_loop():
    attempts, interfere = 0, rival
    while True:
        attempts += 1
        try:
            spend(interfere)
            return f"{attempts} attempts, then {balances()}"
        except OperationalError:
            interfere = lambda: None


converse([
    version, connect, prepared, transaction, savepoint, unique, foreign_key, timeout, batch, hidden, surfaced,
    retry_loop,
])
