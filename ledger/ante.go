package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"sync"
	"time"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/torg-network/torg/ledger/keys"
)

// UnorderedTTL is how far ahead an unordered transaction may set its timeout. A
// client that is kept out of blocks sends the same bytes again until then.
const UnorderedTTL = 2 * time.Minute

// setAnte checks what every transaction must satisfy before its messages run:
// the SDK's own chain, but for fees, and with each signature checked once.
func (a *App) setAnte() {
	known, accounts := &verified{}, briefly{a.Accounts}
	a.SetAnteHandler(sdk.ChainAnteDecorators(
		ante.NewSetUpContextDecorator(),
		rememberDecorator{},
		ante.NewExtensionOptionsDecorator(nil),
		ante.NewValidateBasicDecorator(),
		ante.NewTxTimeoutHeightDecorator(),
		ante.NewValidateMemoDecorator(accounts),
		ante.NewConsumeGasForTxSizeDecorator(accounts),
		feeDecorator{a},
		ante.NewSetPubKeyDecorator(accounts),
		ante.NewValidateSigCountDecorator(accounts),
		ante.NewSigGasConsumeDecorator(accounts, signatureGas),
		knownDecorator{known},
		ante.NewSigVerificationDecorator(accounts, a.Tx.SignModeHandler(), ante.WithMaxUnorderedTxTimeoutDuration(UnorderedTTL)),
		learnDecorator{known},
		ante.NewIncrementSequenceDecorator(accounts),
	))
}

// briefly is the accounts as the decorators of one transaction see them. They ask
// four times for the sender and twice for the parameters, and each time would
// read and decode them again. Only those decorators write accounts meanwhile, so
// what is remembered is what is stored; it ends with the last of them.
type briefly struct{ authkeeper.AccountKeeper }

type rememberKey struct{}

type remembered struct {
	address sdk.AccAddress
	account sdk.AccountI
	params  *authtypes.Params
}

// rememberDecorator gives a transaction its memory.
type rememberDecorator struct{}

func (rememberDecorator) AnteHandle(ctx sdk.Context, tx sdk.Tx, simulate bool, next sdk.AnteHandler) (sdk.Context, error) {
	out, err := next(ctx.WithValue(rememberKey{}, new(remembered)), tx, simulate)
	if err != nil {
		return out, err
	}
	return out.WithValue(rememberKey{}, nil), nil
}

func (b briefly) GetAccount(ctx context.Context, who sdk.AccAddress) sdk.AccountI {
	m, _ := ctx.Value(rememberKey{}).(*remembered)
	if m != nil && m.account != nil && bytes.Equal(m.address, who) {
		return m.account
	}
	a := b.AccountKeeper.GetAccount(ctx, who)
	if m != nil && a != nil {
		m.address, m.account = who, a
	}
	return a
}

func (b briefly) SetAccount(ctx context.Context, a sdk.AccountI) {
	b.AccountKeeper.SetAccount(ctx, a)
	if m, _ := ctx.Value(rememberKey{}).(*remembered); m != nil {
		m.address, m.account = a.GetAddress(), a
	}
}

func (b briefly) GetParams(ctx context.Context) authtypes.Params {
	m, _ := ctx.Value(rememberKey{}).(*remembered)
	if m != nil && m.params != nil {
		return *m.params
	}
	p := b.AccountKeeper.GetParams(ctx)
	if m != nil {
		m.params = &p
	}
	return p
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
