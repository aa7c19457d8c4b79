package square

import (
	"encoding/binary"
	"fmt"
)

// TypeChannelConfig and TypeVoucher are x402 v2 batch-settlement's own
// (EVM binding, read from @x402/evm 2.27.0).
const (
	TypeChannelConfig = "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
	TypeVoucher       = "Voucher(bytes32 channelId,uint128 maxClaimableAmount)"
)

var (
	hashChannelConfig = Keccak([]byte(TypeChannelConfig))
	hashVoucher       = Keccak([]byte(TypeVoucher))
)

// ChannelConfig is the terms of a one-way payment channel. The payer funds it;
// payerAuthorizer, which may be a spending key without funds of its own, signs
// its vouchers; the receiver is paid.
type ChannelConfig struct {
	Payer              Address `json:"payer"`
	PayerAuthorizer    Address `json:"payerAuthorizer"`
	Receiver           Address `json:"receiver"`
	ReceiverAuthorizer Address `json:"receiverAuthorizer"`
	Token              Address `json:"token"`         // see TokenAddress
	WithdrawDelay      uint64  `json:"withdrawDelay"` // seconds, < 2^40
	Salt               Hash    `json:"salt"`
}

// ID is the channel's id: the EIP-712 digest of its config.
func (c ChannelConfig) ID(d Domain) Hash {
	return d.digest(structHash(hashChannelConfig,
		wordAddress(c.Payer), wordAddress(c.PayerAuthorizer),
		wordAddress(c.Receiver), wordAddress(c.ReceiverAuthorizer),
		wordAddress(c.Token), wordUint(c.WithdrawDelay), c.Salt))
}

// TokenAddress is the address x402 clients know a denom by: the last 20 bytes
// of keccak("torg denom" ‖ denom).
func TokenAddress(denom string) (a Address) {
	h := Keccak([]byte("torg denom"), []byte(denom))
	copy(a[:], h[12:])
	return a
}

// MaxLanes bounds the lanes of one lease.
const MaxLanes = 256

// LaneSalt is the salt of a lease's lane: the first 30 bytes of the lease id
// and the lane as a big-endian 16-bit number. Lanes exist because two vouchers
// in flight on one cumulative channel would collide.
func LaneSalt(lease Hash, lane uint16) Hash {
	s := lease
	binary.BigEndian.PutUint16(s[30:], lane)
	return s
}

// Voucher is a cumulative promise: the receiver may claim up to Max in all
// from the channel. A later voucher replaces an earlier one; an old one is
// harmless.
type Voucher struct {
	Channel Hash      `json:"channelId"`
	Max     uint64    `json:"maxClaimableAmount,string"`
	Sig     Signature `json:"signature"`
}

func voucherDigest(d Domain, channel Hash, max uint64) Hash {
	return d.digest(structHash(hashVoucher, channel, wordUint(max)))
}

// SignVoucher makes a voucher with the payerAuthorizer's key.
func SignVoucher(d Domain, channel Hash, max uint64, k Key) Voucher {
	return Voucher{Channel: channel, Max: max, Sig: k.Sign(voucherDigest(d, channel, max))}
}

// Verify checks that the voucher was signed by authorizer.
func (v Voucher) Verify(d Domain, authorizer Address) error {
	if v.Max > MaxUnits {
		return fmt.Errorf("voucher: maxClaimableAmount %d is larger than any supply", v.Max)
	}
	if err := verify(authorizer, voucherDigest(d, v.Channel, v.Max), v.Sig); err != nil {
		return fmt.Errorf("voucher on channel %s: %w", v.Channel.Short(), err)
	}
	return nil
}

// TypeDeposit is what an owner signs in a wallet to fund a channel; anyone may
// carry it to the ledger. The nonce is used once per owner.
const TypeDeposit = "Deposit(address owner,bytes32 channel,address receiver,string denom,uint256 amount,bytes32 nonce,uint256 expiry)"

var hashDeposit = Keccak([]byte(TypeDeposit))

// Deposit moves the owner's money into a channel.
type Deposit struct {
	Owner    Address `json:"owner"`
	Channel  Hash    `json:"channel"`
	Receiver Address `json:"receiver"` // repeated from the config so that a person sees whom it pays
	Amount   Amount  `json:"amount"`
	Nonce    Hash    `json:"nonce"`
	Expiry   int64   `json:"expiry"` // unix seconds
}

// Digest is what the owner signs, under the ledger's own domain.
func (p Deposit) Digest(d Domain) Hash {
	return d.digest(structHash(hashDeposit, wordAddress(p.Owner), p.Channel, wordAddress(p.Receiver),
		wordString(p.Amount.Denom), wordUint(p.Amount.Units), p.Nonce, wordUint(uint64(p.Expiry))))
}

// Verify checks the owner's signature.
func (p Deposit) Verify(d Domain, s Signature) error {
	if err := verify(p.Owner, p.Digest(d), s); err != nil {
		return fmt.Errorf("deposit: %w", err)
	}
	return nil
}
