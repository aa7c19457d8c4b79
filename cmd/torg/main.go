// Command torg opens a market square for AI on this machine and works on it.
// Each file here is one command: it reads flags and environment, wires packages
// together and prints; nothing else does either.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/host"
)

// Exit codes, the same for every command.
const (
	exitOK       = 0
	exitFailure  = 1 // anything not below
	exitUsage    = 2 // wrong words, wrong state of the home directory
	exitPayment  = 3 // balance, budget or price
	exitNotFound = 4
	exitVerify   = 5 // something was checked and is not what it claims
)

// codedError is an error that knows its exit code.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

func exitCode(err error) int {
	var coded *codedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	}
	return exitFailure
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), host.Stops...)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, paint(os.Stderr, red, "error:"), words(err))
		os.Exit(exitCode(err))
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "torg",
		Short: "A market square where AI is made from supply nobody owns",
		Long: "torg opens a market square for AI: machines, models, data and judgement are offered by anyone,\n" +
			"ordered by anyone, verified, paid and slashed over one ledger.\n\n" +
			"Start with:  torg up\n\n" +
			"Exit codes: 0 ok, 1 failure, 2 usage, 3 payment, 4 not found, 5 verification failed.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError("%w; see %s --help", err, c.CommandPath())
	})
	addSettingFlags(root.PersistentFlags(), "")
	root.PersistentFlags().VarP(&format, "output", "o", "how to print: table, json or yaml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(commands()...)
	wrapArgErrors(root)
	return root
}

// wrapArgErrors makes a wrong number of arguments, or an unknown subcommand,
// exit with the usage code.
func wrapArgErrors(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.ArbitraryArgs
		if c.HasSubCommands() {
			check = cobra.NoArgs
		}
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError("%w; see %s --help", err, c.CommandPath())
		}
		return nil
	}
	if c.HasSubCommands() && c.RunE == nil && c.Run == nil {
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	for _, sub := range c.Commands() {
		wrapArgErrors(sub)
	}
}
