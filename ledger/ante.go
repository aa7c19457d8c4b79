package ledger

import (
	"crypto/sha256"
	"sync"
	"time"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/torg-network/torg/ledger/keys"
)

// UnorderedTTL is how far ahead an unordered transaction may set its timeout. A
// client that is kept out of blocks sends the same bytes again until then.
const UnorderedTTL = 2 * time.Minute

// setAnte checks what every transaction must satisfy before its messages run:
// the SDK's own chain, but for fees, and with each signature checked once.
func (a *App) setAnte() {
	known := &verified{}
	a.SetAnteHandler(sdk.ChainAnteDecorators(
		ante.NewSetUpContextDecorator(),
		ante.NewExtensionOptionsDecorator(nil),
		ante.NewValidateBasicDecorator(),
		ante.NewTxTimeoutHeightDecorator(),
		ante.NewValidateMemoDecorator(a.Accounts),
		ante.NewConsumeGasForTxSizeDecorator(a.Accounts),
		feeDecorator{a},
		ante.NewSetPubKeyDecorator(a.Accounts),
		ante.NewValidateSigCountDecorator(a.Accounts),
		ante.NewSigGasConsumeDecorator(a.Accounts, signatureGas),
		knownDecorator{known},
		ante.NewSigVerificationDecorator(a.Accounts, a.Tx.SignModeHandler(), ante.WithMaxUnorderedTxTimeoutDuration(UnorderedTTL)),
		learnDecorator{known},
		ante.NewIncrementSequenceDecorator(a.Accounts),
	))
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

func infinite() storetypes.GasMeter { return storetypes.NewInfiniteGasMeter() }

// verified remembers transactions whose signatures hold. That they do follows
// from their bytes, the ledger's name and the number and key of their accounts,
// and none of that ever changes: so a transaction that was checked when it came
// need not be when it is proposed, when the proposal is looked at and when it is
// executed. Two generations bound the memory.
type verified struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]struct{}
}

// generation is how many transactions make one: more than wait at most.
const generation = 8192

func (v *verified) has(h [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, young := v.young[h]
	_, old := v.old[h]
	return young || old
}

func (v *verified) add(h [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.young) >= generation {
		v.old, v.young = v.young, nil
	}
	if v.young == nil {
		v.young = make(map[[sha256.Size]byte]struct{}, generation)
	}
	v.young[h] = struct{}{}
}

// knownDecorator lets what is known to hold pass without another look at its
// signatures.
type knownDecorator struct{ *verified }

func (d knownDecorator) AnteHandle(ctx sdk.Context, tx sdk.Tx, simulate bool, next sdk.AnteHandler) (sdk.Context, error) {
	if !simulate && !ctx.IsReCheckTx() && d.has(sha256.Sum256(ctx.TxBytes())) {
		ctx = ctx.WithIsSigverifyTx(false)
	}
	return next(ctx, tx, simulate)
}

// learnDecorator comes after the signatures: they hold.
type learnDecorator struct{ *verified }

func (d learnDecorator) AnteHandle(ctx sdk.Context, tx sdk.Tx, simulate bool, next sdk.AnteHandler) (sdk.Context, error) {
	if !simulate && !ctx.IsReCheckTx() && ctx.IsSigverifyTx() {
		d.add(sha256.Sum256(ctx.TxBytes()))
	}
	return next(ctx, tx, simulate)
}
