package ledger

import (
	"time"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/torg-network/torg/ledger/keys"
)

// UnorderedTTL is how far ahead an unordered transaction may set its timeout.
const UnorderedTTL = 10 * time.Minute

// setAnte checks what every transaction must satisfy before its messages run.
func (a *App) setAnte() error {
	h, err := ante.NewAnteHandler(ante.HandlerOptions{
		AccountKeeper:    a.Accounts,
		BankKeeper:       a.Bank,
		FeegrantKeeper:   a.feegrant,
		SignModeHandler:  a.Tx.SignModeHandler(),
		SigGasConsumer:   signatureGas,
		SigVerifyOptions: []ante.SigVerificationDecoratorOption{ante.WithMaxUnorderedTxTimeoutDuration(UnorderedTTL)},
	})
	if err != nil {
		return err
	}
	a.SetAnteHandler(h)
	return nil
}

// signatureGas charges for one signature; everything but our own key is as the
// SDK has it.
func signatureGas(m storetypes.GasMeter, sig signing.SignatureV2, p authtypes.Params) error {
	if _, ours := sig.PubKey.(*keys.PubKey); ours {
		m.ConsumeGas(keys.VerifyGas, "signature")
		return nil
	}
	return ante.DefaultSigVerificationGasConsumer(m, sig, p)
}
