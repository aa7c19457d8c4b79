package ledger

import "github.com/torg-network/torg/ledger/space"

// SetWait makes the pool smaller for a test. It returns how to undo that.
func SetWait(l space.Lane, txs int) func() {
	was := waitTxs
	waitTxs[l] = txs
	return func() { waitTxs = was }
}

// ForgetProposal makes the App look at its own next proposal as at another's.
func (a *App) ForgetProposal() { a.proposed = [32]byte{} }
