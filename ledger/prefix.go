package ledger

import (
	"os"
	"sync"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/square"
)

// usePrefix makes every address in this process print as torg1…; the SDK keeps
// the prefix in a global that can be set once.
var usePrefix = sync.OnceFunc(func() {
	// The SDK looks its globals up under a name from the environment or else, each
	// time, under this program's name and host; addresses are looked at all the time.
	// Whatever the name was, this process has no other's globals.
	os.Setenv(sdk.EnvConfigScope, "torg")
	c := sdk.GetConfig()
	p := square.Prefix
	c.SetBech32PrefixForAccount(p, p+sdk.PrefixPublic)
	c.SetBech32PrefixForValidator(p+sdk.PrefixValidator+sdk.PrefixOperator, p+sdk.PrefixValidator+sdk.PrefixOperator+sdk.PrefixPublic)
	c.SetBech32PrefixForConsensusNode(p+sdk.PrefixValidator+sdk.PrefixConsensus, p+sdk.PrefixValidator+sdk.PrefixConsensus+sdk.PrefixPublic)
	c.SetCoinType(60)
	c.Seal()
	sdk.DefaultBondDenom = square.Denom
})
