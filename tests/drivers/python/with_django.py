"""Django's ORM on psycopg, with nested atomic blocks as its users write them."""

import django
from conversation import URL, converse, rival, words
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

login = conninfo_to_dict(URL)
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": login.pop("host"),
            "PORT": login.pop("port"),
            "USER": login.pop("user"),
            "NAME": login.pop("dbname"),
            "OPTIONS": {**login, "server_side_binding": True},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import DatabaseError, IntegrityError, OperationalError, connection, models, transaction as scope
from django.db.models import F


class Account(models.Model):
    id = models.BigIntegerField(primary_key=True)
    balance = models.BigIntegerField()

    class Meta:
        app_label = "bank"
        db_table = "accounts"


class Payment(models.Model):
    id = models.BigIntegerField(primary_key=True)
    account = models.ForeignKey(Account, models.DO_NOTHING, db_column="account")

    class Meta:
        app_label = "bank"
        db_table = "payments"


def balances():
    return words(Account.objects.order_by("id").values_list("balance"))


def change(id, amount):
    Account.objects.filter(id=id).update(balance=F("balance") + amount)


def version():
    return django.__version__


def connect():
    with connection.cursor() as cursor:
        return cursor.execute("SHOW application_name").fetchone()[0]


def prepared():
    return " ".join(str(Account.objects.get(id=id).balance) for id in (1, 2, 3))


def transaction():
    with scope.atomic():
        change(1, -10)
        change(2, 10)
    with scope.atomic():
        Account.objects.update(balance=0)
        scope.set_rollback(True)
    return balances()


def savepoint():
    with scope.atomic():
        change(1, -10)
        try:
            with scope.atomic():
                Account.objects.create(id=1, balance=0)
        except IntegrityError as error:
            seen = error.__cause__.sqlstate
        change(2, 10)
    return f"{seen}, then {balances()}"


def sqlstate(statement):
    try:
        statement()
    except DatabaseError as error:
        return error.__cause__.sqlstate


def unique():
    return sqlstate(lambda: Account.objects.create(id=1, balance=0))


def foreign_key():
    return sqlstate(lambda: Payment.objects.create(id=1, account_id=99))


def timeout():
    def sleep():
        with scope.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 50")
            cursor.execute("SELECT pg_sleep(60)")

    return sqlstate(sleep)


def batch():
    Account.objects.bulk_create([Account(id=4, balance=400), Account(id=5, balance=500)])
    return balances()


def hidden():
    try:
        with scope.atomic():
            count = Account.objects.count()
            rival()
            change(1, -10)
    except OperationalError as error:
        return error.__cause__.sqlstate
    return f"{count} accounts, then {balances()}"


def spend(interfere):
    """Reads an account, and writes what it computed from its balance."""
    with scope.atomic():
        account = Account.objects.get(id=1)
        interfere()
        account.balance -= 10
        account.save()


def surfaced():
    seen = sqlstate(lambda: spend(rival))
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
