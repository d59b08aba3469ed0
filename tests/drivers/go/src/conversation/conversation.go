// Package conversation is how a program of the suite is told what to do, and tells what it saw.
//
// It reads the name of a check, runs it, and answers with "= " and its observation. In the middle of a check it may say
// "rival", and another client of the database changes the balance of account 1, or "running", and is answered when the
// server runs its statement. Either is answered with a line.
package conversation

import (
	"bufio"
	"fmt"
	"os"
)

// DriverVersion is the version of the driver, told by who links the program.
var DriverVersion string

var orders = bufio.NewScanner(os.Stdin)

func ask(word string) {
	fmt.Println(word)
	orders.Scan()
}

// Rival lets another client add 1 to the balance of account 1, and commit.
func Rival() { ask("rival") }

// Running waits until the server runs the statement that is to be cancelled.
func Running() { ask("running") }

// Converse runs the checks that it is told to, by name.
func Converse(checks map[string]func() (string, error)) {
	for orders.Scan() {
		seen, err := checks[orders.Text()]()
		if err != nil {
			fmt.Fprintln(os.Stderr, orders.Text()+":", err)
			os.Exit(1)
		}
		fmt.Println("=", seen)
	}
}
