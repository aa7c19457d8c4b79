package main

import (
	"github.com/spf13/cobra"

	"github.com/torg-network/torg/plug"
)

// commands are torg's own and, after the first, those of its trades.
func commands() []*cobra.Command {
	all := []*cobra.Command{upCommand()}
	for _, k := range kits {
		if k.Commands != nil {
			all = append(all, k.Commands(find)...)
		}
	}
	return append(all,
		consoleCommand(), provideCommand(), judgeCommand(), walletCommand(), keyCommand(), offersCommand(), orderCommand(), leaseCommand(), receiptCommand(), auditCommand(),
		ledgerCommand(), trainCommand(), benchCommand(),
		doctorCommand(), configCommand(), versionCommand(),
	)
}

// find is where the square on a command's home listens.
func find(c *cobra.Command) (plug.Place, error) {
	cfg, err := readConfig(c)
	if err != nil {
		return plug.Place{}, err
	}
	run, err := findRunning(cfg)
	return run.place(), err
}
