package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	txtypes "github.com/cosmos/cosmos-sdk/types/tx"

	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/square"
)

// Draft is a transaction that a wallet elsewhere is to sign (Cosmos' SIGN_MODE_DIRECT).
type Draft struct {
	Body, Auth []byte // TxBody and AuthInfo
	Number     uint64 // of the account
	Until      time.Time
}

// DraftSend drafts a transfer out of the account of a public key, 33 bytes.
func (c *Client) DraftSend(ctx context.Context, pub []byte, to square.Address, amount square.Amount) (Draft, error) {
	from, err := square.PubKeyAddress(pub)
	if err != nil {
		return Draft{}, err
	}
	number, err := c.number(ctx, from)
	if err != nil {
		return Draft{}, err
	}
	send := call{&banktypes.MsgSend{FromAddress: from.String(), ToAddress: to.String(), Amount: coins(amount)}, gasSend}
	bid, err := c.bid(ctx, 0, send)
	if err != nil {
		return Draft{}, err
	}
	// A person takes longer to sign than a program: as long as the ledger allows.
	return c.draft(&keys.PubKey{Key: pub}, number, time.Now().Add(maxTTL).UTC(), bid, send)
}

// SubmitDraft sends a draft with its signature, 64 bytes, and waits for its
// block.
func (c *Client) SubmitDraft(ctx context.Context, d Draft, sig []byte) (Result, error) {
	if len(sig) != 64 {
		return Result{}, errors.New("signature: want 64 bytes")
	}
	tx, err := d.sealed(sig)
	if err != nil {
		return Result{}, err
	}
	return c.include(ctx, tx, nil) // the key that would bid more is elsewhere
}

// signBytes is what is signed of a draft.
func (d Draft) signBytes(chainID string) ([]byte, error) {
	b, err := (&txtypes.SignDoc{BodyBytes: d.Body, AuthInfoBytes: d.Auth, ChainId: chainID, AccountNumber: d.Number}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	return b, nil
}

// sealed is the draft with its signature.
func (d Draft) sealed(sig []byte) (signed, error) {
	raw, err := (&txtypes.TxRaw{BodyBytes: d.Body, AuthInfoBytes: d.Auth, Signatures: [][]byte{sig}}).Marshal()
	return signed{raw: raw, hash: sha256.Sum256(raw), number: d.Number, until: d.Until}, err
}
