package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/square"
)

// keyring is the keys of one home directory, all derived from the words in
// wallet.json. Whoever has the words has the money.
type keyring struct {
	owner     square.Key // m/44'/60'/0'/0/0: the wallet; buys
	spender   square.Key // …/1: signs vouchers and cannot move money otherwise
	provider  square.Key // …/2: sells
	validator square.Key // …/3: operates the ledger's validator
}

type walletFile struct {
	Mnemonic string `json:"mnemonic"`
}

const walletName = "wallet.json"

// openKeyring reads the home's keys; with create it makes them first if there
// are none.
func openKeyring(cfg config, create bool) (keyring, error) {
	var w walletFile
	b, err := os.ReadFile(cfg.path(walletName))
	switch {
	case err == nil:
		if err := json.Unmarshal(b, &w); err != nil {
			return keyring{}, fmt.Errorf("read %s: %w", cfg.path(walletName), err)
		}
	case errors.Is(err, fs.ErrNotExist) && create:
		if w.Mnemonic, err = keys.NewMnemonic(); err != nil {
			return keyring{}, err
		}
		if err := writeFile(cfg.path(walletName), w); err != nil {
			return keyring{}, err
		}
	case errors.Is(err, fs.ErrNotExist):
		return keyring{}, usageError("no wallet in %s; torg up makes one", cfg.path())
	default:
		return keyring{}, fmt.Errorf("read the wallet: %w", err)
	}
	var k keyring
	for i, dst := range []*square.Key{&k.owner, &k.spender, &k.provider, &k.validator} {
		if *dst, err = keys.FromMnemonic(w.Mnemonic, uint32(i)); err != nil {
			return keyring{}, fmt.Errorf("%s: %w", cfg.path(walletName), err)
		}
	}
	return k, nil
}

// randomToken is 32 random bytes in hex, for secrets that never leave the home.
func randomToken() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
