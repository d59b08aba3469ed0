// lib/pq under database/sql: a pool, statements prepared for one use, COPY, cancel by a context.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"conversation"

	"github.com/lib/pq"
)

const (
	balancesOf = "SELECT balance FROM accounts ORDER BY id"
	change     = "UPDATE accounts SET balance = balance + $1 WHERE id = $2"
)

var (
	ctx = context.Background()
	db  *sql.DB
)

type querier interface {
	Query(string, ...interface{}) (*sql.Rows, error)
}

func words(from querier, query string) (string, error) {
	rows, err := from.Query(query)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var words []string
	for rows.Next() {
		var word string
		if err := rows.Scan(&word); err != nil {
			return "", err
		}
		words = append(words, word)
	}
	return strings.Join(words, " "), rows.Err()
}

// The SQLSTATE of an error that the server sent; any other error stays one.
func sqlstate(err error) (string, error) {
	var told *pq.Error
	if errors.As(err, &told) {
		return string(told.Code), nil
	}
	return "nothing", err
}

func begin(work func(*sql.Tx) error) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		if undone := tx.Rollback(); undone != nil {
			return undone
		}
		return err
	}
	return tx.Commit()
}

// Runs statements one after the other, up to the first that fails.
func exec(tx *sql.Tx, statements ...string) error {
	for _, statement := range statements {
		if _, err := tx.Exec(statement); err != nil {
			return err
		}
	}
	return nil
}

func prepared() (string, error) {
	statement, err := db.Prepare("SELECT balance FROM accounts WHERE id = $1")
	if err != nil {
		return "", err
	}
	defer statement.Close()
	var seen []string
	for id := 1; id <= 3; id++ {
		var balance string
		if err := statement.QueryRow(id).Scan(&balance); err != nil {
			return "", err
		}
		seen = append(seen, balance)
	}
	return strings.Join(seen, " "), nil
}

var errUndo = errors.New("undo")

func transaction() (string, error) {
	err := begin(func(tx *sql.Tx) error {
		if _, err := tx.Exec(change, -10, 1); err != nil {
			return err
		}
		_, err := tx.Exec(change, 10, 2)
		return err
	})
	if err != nil {
		return "", err
	}
	err = begin(func(tx *sql.Tx) error {
		if err := exec(tx, "UPDATE accounts SET balance = 0"); err != nil {
			return err
		}
		return errUndo
	})
	if err != errUndo {
		return "", err
	}
	return words(db, balancesOf)
}

func savepoint() (string, error) {
	var seen string
	err := begin(func(tx *sql.Tx) error {
		if err := exec(tx, "UPDATE accounts SET balance = balance - 10 WHERE id = 1", "SAVEPOINT before"); err != nil {
			return err
		}
		err := exec(tx, "INSERT INTO accounts VALUES (1, 0)")
		if seen, err = sqlstate(err); err != nil {
			return err
		}
		return exec(tx, "ROLLBACK TO SAVEPOINT before", "UPDATE accounts SET balance = balance + 10 WHERE id = 2")
	})
	if err != nil {
		return "", err
	}
	balances, err := words(db, balancesOf)
	return seen + ", then " + balances, err
}

func failure(statement string) func() (string, error) {
	return func() (string, error) {
		_, err := db.Exec(statement)
		return sqlstate(err)
	}
}

func cancel() (string, error) {
	sleeping, stop := context.WithCancel(ctx)
	go func() {
		conversation.Running()
		stop()
	}()
	_, err := db.ExecContext(sleeping, "SELECT pg_sleep(60)")
	return sqlstate(err)
}

func copyIn() (string, error) {
	err := begin(func(tx *sql.Tx) error {
		statement, err := tx.Prepare(pq.CopyIn("accounts", "id", "balance"))
		if err != nil {
			return err
		}
		for id := 4; id <= 5; id++ {
			if _, err := statement.Exec(id, 100*id); err != nil {
				return err
			}
		}
		if _, err := statement.Exec(); err != nil {
			return err
		}
		return statement.Close()
	})
	if err != nil {
		return "", err
	}
	return words(db, balancesOf)
}

func hidden() (string, error) {
	var count string
	err := begin(func(tx *sql.Tx) (err error) {
		if count, err = words(tx, "SELECT count(*) FROM accounts"); err != nil {
			return err
		}
		conversation.Rival()
		_, err = tx.Exec(change, -10, 1)
		return err
	})
	if err != nil {
		return sqlstate(err)
	}
	balances, err := words(db, balancesOf)
	return count + " accounts, then " + balances, err
}

// Reads a balance, and writes what it computed from it.
func spend(interfere func()) error {
	return begin(func(tx *sql.Tx) error {
		var balance int64
		if err := tx.QueryRow("SELECT balance FROM accounts WHERE id = 1").Scan(&balance); err != nil {
			return err
		}
		interfere()
		_, err := tx.Exec("UPDATE accounts SET balance = $1 WHERE id = 1", balance-10)
		return err
	})
}

func surfaced() (string, error) {
	seen, err := sqlstate(spend(conversation.Rival))
	if err != nil {
		return "", err
	}
	balances, err := words(db, balancesOf)
	return seen + ", then " + balances, err
}

func retryLoop() (string, error) {
	interfere := conversation.Rival
	for attempts := 1; ; attempts++ {
		seen, err := sqlstate(spend(interfere))
		if err != nil {
			return "", err
		}
		if seen != "40001" {
			balances, err := words(db, balancesOf)
			return fmt.Sprintf("%d attempts, then %s", attempts, balances), err
		}
		interfere = func() {}
	}
}

func main() {
	var err error
	if db, err = sql.Open("postgres", os.Getenv("DATABASE_URL")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	db.SetMaxIdleConns(1)
	conversation.Converse(map[string]func() (string, error){
		"version":     func() (string, error) { return conversation.DriverVersion, nil },
		"connect":     func() (string, error) { return words(db, "SHOW application_name") },
		"prepared":    prepared,
		"transaction": transaction,
		"savepoint":   savepoint,
		"unique":      failure("INSERT INTO accounts VALUES (1, 0)"),
		"foreign_key": failure("INSERT INTO payments VALUES (1, 99)"),
		"cancel":      cancel,
		"copy_in":     copyIn,
		"hidden":      hidden,
		"surfaced":    surfaced,
		"retry_loop":  retryLoop,
	})
}
