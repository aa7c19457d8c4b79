package main

import "github.com/spf13/cobra"

func commands() []*cobra.Command {
	return []*cobra.Command{
		chatCommand(), configCommand(), keyCommand(), trainCommand(), versionCommand(),
	}
}
