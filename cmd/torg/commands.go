package main

import "github.com/spf13/cobra"

func commands() []*cobra.Command {
	return []*cobra.Command{
		upCommand(), chatCommand(),
		consoleCommand(), provideCommand(), judgeCommand(), walletCommand(), keyCommand(), offersCommand(), orderCommand(), leaseCommand(), receiptCommand(), auditCommand(),
		proveCommand(), verifyCommand(), modelCommand(),
		ledgerCommand(), trainCommand(), benchCommand(),
		doctorCommand(), configCommand(), versionCommand(),
	}
}
