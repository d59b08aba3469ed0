// pgx 4: prepared statements of its own making, binary values, batches, COPY, nested transactions.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"conversation"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

const (
	balancesOf = "SELECT balance FROM accounts ORDER BY id"
	change     = "UPDATE accounts SET balance = balance + $1 WHERE id = $2"
)

var ctx = context.Background()

type check func(*pgx.Conn) (string, error)

// A session of its own for each check.
func session(check check) func() (string, error) {
	return func() (string, error) {
		conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
		if err != nil {
			return "", err
		}
		defer conn.Close(ctx)
		return check(conn)
	}
}

type querier interface {
	Query(context.Context, string, ...interface{}) (pgx.Rows, error)
}

func words(conn querier, query string, values ...interface{}) (string, error) {
	rows, err := conn.Query(ctx, query, values...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var words []string
	for rows.Next() {
		shown, err := rows.Values()
		if err != nil {
			return "", err
		}
		words = append(words, fmt.Sprint(shown[0]))
	}
	return strings.Join(words, " "), rows.Err()
}

// The SQLSTATE of an error that the server sent; any other error stays one.
func sqlstate(err error) (string, error) {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return told.Code, nil
	}
	return "nothing", err
}

func begin(conn *pgx.Conn, work func(pgx.Tx) error) error {
	return conn.BeginFunc(ctx, work)
}

func exec(tx pgx.Tx, statement string, values ...interface{}) error {
	_, err := tx.Exec(ctx, statement, values...)
	return err
}

func pid(conn *pgx.Conn) (string, error) {
	shown, err := words(conn, "SELECT pg_backend_pid()")
	if shown == fmt.Sprint(conn.PgConn().PID()) {
		return "same", err
	}
	return "another", err
}

func prepared(conn *pgx.Conn) (string, error) {
	if _, err := conn.Prepare(ctx, "balance", "SELECT balance FROM accounts WHERE id = $1"); err != nil {
		return "", err
	}
	var seen []string
	for id := 1; id <= 3; id++ {
		balance, err := words(conn, "balance", id)
		if err != nil {
			return "", err
		}
		seen = append(seen, balance)
	}
	return strings.Join(seen, " "), nil
}

var errUndo = errors.New("undo")

func transaction(conn *pgx.Conn) (string, error) {
	err := begin(conn, func(tx pgx.Tx) error {
		if err := exec(tx, change, -10, 1); err != nil {
			return err
		}
		return exec(tx, change, 10, 2)
	})
	if err != nil {
		return "", err
	}
	err = begin(conn, func(tx pgx.Tx) error {
		if err := exec(tx, "UPDATE accounts SET balance = 0"); err != nil {
			return err
		}
		return errUndo
	})
	if err != errUndo {
		return "", err
	}
	return words(conn, balancesOf)
}

func savepoint(conn *pgx.Conn) (string, error) {
	var seen string
	err := begin(conn, func(tx pgx.Tx) error {
		if err := exec(tx, change, -10, 1); err != nil {
			return err
		}
		err := tx.BeginFunc(ctx, func(inner pgx.Tx) error {
			return exec(inner, "INSERT INTO accounts VALUES (1, 0)")
		})
		if seen, err = sqlstate(err); err != nil {
			return err
		}
		return exec(tx, change, 10, 2)
	})
	if err != nil {
		return "", err
	}
	balances, err := words(conn, balancesOf)
	return seen + ", then " + balances, err
}

func failure(statement string) check {
	return func(conn *pgx.Conn) (string, error) {
		_, err := conn.Exec(ctx, statement)
		return sqlstate(err)
	}
}

func cancel(conn *pgx.Conn) (string, error) {
	cancelled := make(chan error)
	go func() {
		conversation.Running()
		cancelled <- conn.PgConn().CancelRequest(ctx)
	}()
	_, err := conn.Exec(ctx, "SELECT pg_sleep(60)")
	if err := <-cancelled; err != nil {
		return "", err
	}
	return sqlstate(err)
}

func copyIn(conn *pgx.Conn) (string, error) {
	rows := strings.NewReader("4\t400\n5\t500\n")
	if _, err := conn.PgConn().CopyFrom(ctx, rows, "COPY accounts (id, balance) FROM STDIN"); err != nil {
		return "", err
	}
	return words(conn, balancesOf)
}

func copyOut(conn *pgx.Conn) (string, error) {
	var copied bytes.Buffer
	_, err := conn.PgConn().CopyTo(ctx, &copied, "COPY ("+balancesOf+") TO STDOUT")
	return strings.Join(strings.Fields(copied.String()), " "), err
}

// Both changes go out before the first is answered.
func both() *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(change, -10, 1)
	batch.Queue(change, 10, 2)
	return batch
}

func pipeline(conn *pgx.Conn) (string, error) {
	if err := conn.SendBatch(ctx, both()).Close(); err != nil {
		return "", err
	}
	return words(conn, balancesOf)
}

func afterCounting(work func(pgx.Tx) error) check {
	return func(conn *pgx.Conn) (string, error) {
		var count string
		err := begin(conn, func(tx pgx.Tx) (err error) {
			if count, err = words(tx, "SELECT count(*) FROM accounts"); err != nil {
				return err
			}
			conversation.Rival()
			return work(tx)
		})
		if err != nil {
			return sqlstate(err)
		}
		balances, err := words(conn, balancesOf)
		return count + " accounts, then " + balances, err
	}
}

// Reads a balance, and writes what it computed from it.
func spend(conn *pgx.Conn, interfere func()) error {
	return begin(conn, func(tx pgx.Tx) error {
		var balance int64
		if err := tx.QueryRow(ctx, "SELECT balance FROM accounts WHERE id = 1").Scan(&balance); err != nil {
			return err
		}
		interfere()
		return exec(tx, "UPDATE accounts SET balance = $1 WHERE id = 1", balance-10)
	})
}

func surfaced(conn *pgx.Conn) (string, error) {
	seen, err := sqlstate(spend(conn, conversation.Rival))
	if err != nil {
		return "", err
	}
	balances, err := words(conn, balancesOf)
	return seen + ", then " + balances, err
}

func retryLoop(conn *pgx.Conn) (string, error) {
	interfere := conversation.Rival
	for attempts := 1; ; attempts++ {
		seen, err := sqlstate(spend(conn, interfere))
		if err != nil {
			return "", err
		}
		if seen != "40001" {
			balances, err := words(conn, balancesOf)
			return fmt.Sprintf("%d attempts, then %s", attempts, balances), err
		}
		interfere = func() {}
	}
}

func main() {
	conversation.Converse(map[string]func() (string, error){
		"version":     func() (string, error) { return conversation.DriverVersion, nil },
		"connect":     session(func(conn *pgx.Conn) (string, error) { return words(conn, "SHOW application_name") }),
		"pid":         session(pid),
		"prepared":    session(prepared),
		"transaction": session(transaction),
		"savepoint":   session(savepoint),
		"unique":      session(failure("INSERT INTO accounts VALUES (1, 0)")),
		"foreign_key": session(failure("INSERT INTO payments VALUES (1, 99)")),
		"cancel":      session(cancel),
		"copy_in":     session(copyIn),
		"copy_out":    session(copyOut),
		"pipeline":    session(pipeline),
		"hidden":      session(afterCounting(func(tx pgx.Tx) error { return exec(tx, change, -10, 1) })),
		"hidden_batch": session(afterCounting(func(tx pgx.Tx) error {
			return tx.SendBatch(ctx, both()).Close()
		})),
		"surfaced":   session(surfaced),
		"retry_loop": session(retryLoop),
	})
}
