package marketv1

import (
	"errors"

	errorsmod "cosmossdk.io/errors"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Codespace is where the codes of our own refusals live.
const Codespace = "torg"

// causes are the errors that callers tell apart, by code.
var causes = []struct {
	code  uint32
	cause error
	coded *errorsmod.Error
}{
	{2, market.ErrNotFound, errorsmod.Register(Codespace, 2, "not found")},
	{3, market.ErrState, errorsmod.Register(Codespace, 3, "state")},
	{4, market.ErrLate, errorsmod.Register(Codespace, 4, "late")},
	{5, market.ErrEarly, errorsmod.Register(Codespace, 5, "early")},
	{6, market.ErrParty, errorsmod.Register(Codespace, 6, "party")},
	{7, market.ErrUsed, errorsmod.Register(Codespace, 7, "used")},
	{8, market.ErrFunds, errorsmod.Register(Codespace, 8, "funds")},
	{9, square.ErrSignature, errorsmod.Register(Codespace, 9, "signature")},
	{10, trade.ErrProof, errorsmod.Register(Codespace, 10, "proof")},
}

var errInvalid = errorsmod.Register(Codespace, 20, "invalid")

// Code gives a refusal the code of its cause, so that it can be told apart on
// the other side of the ledger.
func Code(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range causes {
		if errors.Is(err, c.cause) {
			return errorsmod.Wrap(c.coded, err.Error())
		}
	}
	return errorsmod.Wrap(errInvalid, err.Error())
}

// Cause is the error behind a code; nil if the code has none.
func Cause(code uint32) error {
	for _, c := range causes {
		if c.code == code {
			return c.cause
		}
	}
	return nil
}
