package wallet

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"

	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/square"
)

// field is one member of a typed-data struct.
type field struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// typedData is EIP-712 as wallets take it (eth_signTypedData_v4). Its domain has
// no chainId: MetaMask would refuse one that is not its active network's.
type typedData struct {
	Domain      map[string]string  `json:"domain"`
	Types       map[string][]field `json:"types"`
	PrimaryType string             `json:"primaryType"`
	Message     map[string]string  `json:"message"`
}

// typedDeposit is a deposit in the words that a wallet shows.
func typedDeposit(d square.Deposit, chainID string) typedData {
	salt := square.Keccak([]byte(chainID))
	return typedData{
		Domain: map[string]string{"name": "torg", "version": "1", "salt": "0x" + salt.String()},
		Types: map[string][]field{
			"EIP712Domain": {{"name", "string"}, {"version", "string"}, {"salt", "bytes32"}},
			"Deposit": {{"owner", "address"}, {"channel", "bytes32"}, {"receiver", "address"}, {"denom", "string"},
				{"amount", "uint256"}, {"nonce", "bytes32"}, {"expiry", "uint256"}},
		},
		PrimaryType: "Deposit",
		Message: map[string]string{
			"owner": d.Owner.Hex(), "channel": "0x" + d.Channel.String(), "receiver": d.Receiver.Hex(), "denom": d.Amount.Denom,
			"amount": strconv.FormatUint(d.Amount.Units, 10), "nonce": "0x" + d.Nonce.String(), "expiry": strconv.FormatInt(d.Expiry, 10),
		},
	}
}

// typed prepares a transfer for MetaMask.
func (p *Page) typed(w http.ResponseWriter, r *http.Request, k ticket) error {
	from, err := p.from(r)
	if err != nil {
		return err
	}
	var nonce, salt square.Hash
	rand.Read(nonce[:]) // never fails
	rand.Read(salt[:])
	k.channel = square.ChannelConfig{
		Payer: from, PayerAuthorizer: p.Bank.Carrier(), Receiver: k.what.to, ReceiverAuthorizer: p.Bank.Carrier(),
		Token: square.TokenAddress(k.what.amount.Denom), WithdrawDelay: channelLag, Salt: salt,
	}
	chain := p.Ledger.ChainID()
	k.deposit = square.Deposit{
		Owner: from, Channel: k.channel.ID(square.ChannelDomain(chain)), Receiver: k.what.to, Amount: k.what.amount,
		Nonce: nonce, Expiry: k.until.Unix(),
	}
	return ui.JSON(w, map[string]any{"ticket": p.keep(k), "typed": typedDeposit(k.deposit, chain)})
}

// from is the account that pays: that of a wallet's session is its own.
func (p *Page) from(r *http.Request) (square.Address, error) {
	from, err := square.ParseAddress(r.PostForm.Get("from"))
	if err != nil || from.IsZero() {
		return from, ui.BadInput("From", "the wallet gave no account")
	}
	if v := ui.Of(r.Context()).Viewer(); v.Role == session.Wallet && from != v.Address {
		return from, ui.BadInput("From", fmt.Sprintf("you are logged in as %s; choose that account in the wallet", v.Address))
	}
	return from, nil
}

// drafted prepares a transfer for Keplr.
func (p *Page) drafted(w http.ResponseWriter, r *http.Request, k ticket) error {
	pub, err := fromBase64("Public key", r.PostForm.Get("pubkey"), 33)
	if err != nil {
		return err
	}
	from, err := square.PubKeyAddress(pub)
	if err != nil {
		return ui.BadInput("Public key", "it is none")
	}
	r.PostForm.Set("from", from.String())
	if _, err := p.from(r); err != nil {
		return err
	}
	d, err := p.Bank.DraftSend(r.Context(), pub, k.what.to, k.what.amount)
	if err != nil {
		return err
	}
	k.draft = &d
	return ui.JSON(w, map[string]any{
		"ticket": p.keep(k), "body": base64.StdEncoding.EncodeToString(d.Body), "auth": base64.StdEncoding.EncodeToString(d.Auth),
		"number": strconv.FormatUint(d.Number, 10), "chain": p.Ledger.ChainID(), "from": from.String(),
	})
}

// fromBase64 reads n bytes.
func fromBase64(field, s string, n int) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != n {
		return nil, ui.BadInput(field, fmt.Sprintf("want %d bytes in base64", n))
	}
	return b, nil
}
