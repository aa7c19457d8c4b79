package wallet_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

// bank notes what it is told to do.
type bank struct {
	carrier square.Address
	sent    []string
	fail    error
}

func (b *bank) Carrier() square.Address { return b.carrier }

func (b *bank) Send(_ context.Context, to square.Address, a square.Amount) (source.Tx, error) {
	b.sent = append(b.sent, "send "+a.String()+" to "+to.String())
	return source.Tx{Hash: square.Hash{1}, Height: 7}, b.fail
}

func (b *bank) Carry(_ context.Context, c square.ChannelConfig, d square.Deposit, sig square.Signature) (source.Tx, error) {
	// What the ledger checks.
	if c.ID(square.ChannelDomain(consoletest.ChainID)) != d.Channel || c.Receiver != d.Receiver || c.Payer != d.Owner {
		return source.Tx{}, errors.New("the deposit is not into this channel")
	}
	if err := d.Verify(square.LedgerDomain(consoletest.ChainID), sig); err != nil {
		return source.Tx{}, err
	}
	b.sent = append(b.sent, "carry "+d.Amount.String()+" to "+d.Receiver.String())
	return source.Tx{Hash: square.Hash{2}, Height: 8}, nil
}

func (b *bank) DraftSend(_ context.Context, pub []byte, to square.Address, a square.Amount) (source.Draft, error) {
	return source.Draft{Body: []byte("body " + a.String() + " " + to.String()), Auth: pub, Number: 5, Until: time.Now().Add(time.Minute)}, b.fail
}

func (b *bank) SubmitDraft(_ context.Context, d source.Draft, sig []byte) (source.Tx, error) {
	b.sent = append(b.sent, string(d.Body))
	return source.Tx{Hash: square.Hash{3}, Height: 9}, nil
}

func open(t testing.TB) (*consoletest.Test, *bank) {
	b := &bank{}
	s := consoletest.Open(t, consoletest.New(), func(c *console.Config) { c.Bank, b.carrier = b, c.Owner })
	me, provider := s.Owner.Address(), square.Address{9}
	s.Balances[me] = 9_990_000_000
	lease := source.Lease{Lease: market.Lease{
		ID: square.Hash{5}, State: market.Active, Provider: provider, Escrow: 9_000_000, Paid: 1_000_000, Ends: time.Now().Add(time.Hour).Unix(),
		Order: square.Order{Buyer: me, Denom: square.Denom},
	}}
	s.AllLeases = []source.Lease{lease}
	s.Owed = map[square.Hash]desk.Standing{lease.ID: {Charged: 1_250_000, Promised: 2_000_000}}
	s.AllChannels = []source.Channel{{ID: square.Hash{6}, Config: square.ChannelConfig{Payer: me, Receiver: provider}, Denom: square.Denom, Deposit: 3_000_000, Claimed: 500_000}}
	s.Past = []source.Event{{Event: market.Event{
		Kind: market.EvOpened, Buyer: me, By: me, Lease: lease.ID, Time: time.Now().Add(-time.Hour).Unix(),
		Moves: []market.Transfer{{From: market.Account(me), To: market.Escrow(lease.ID), Amount: square.Utorg(10_000_000)}},
	}, Height: 4, Tx: square.Hash{0xab}}}
	return s, b
}

func TestOneBalance(t *testing.T) {
	s, _ := open(t)
	s.Asked()
	b := s.AsOwner()
	s.Asked()
	r := b.Get("/wallet").Is(200)
	r.Has("9990 TORG", "11.5 TORG", "0.25 TORG", "You set 10 TORG aside in escrow for an order.", "− 10 TORG", s.Owner.Address().String(), s.Owner.Address().Hex(), "owner")
	if n := s.Asked(); n > 5 {
		t.Errorf("the page asks the ledger %d times, want at most 5", n)
	}
	titled := false
	r.Each("data", func(n *html.Node) { titled = titled || consoletest.Attr(n, "title") == "250000 utorg" })
	if !titled {
		t.Error("no amount has its base units in its title")
	}
}

// What is asked of the ledger does not grow with what is shown.
func TestQueriesDoNotGrow(t *testing.T) {
	s, _ := open(t)
	b := s.AsOwner()
	count := func() int { s.Asked(); b.Get("/wallet").Is(200); return s.Asked() }
	few := count()
	for i := range 500 {
		l := s.AllLeases[0]
		l.ID = square.Hash{7, byte(i), byte(i >> 8)}
		s.AllLeases = append(s.AllLeases, l)
		s.Past = append(s.Past, s.Past[0])
	}
	if many := count(); many != few {
		t.Errorf("%d questions with one lease, %d with 500", few, many)
	}
}

func TestAKeySeesItsBudgetOnly(t *testing.T) {
	s, _ := open(t)
	budget := uint64(4_000_000)
	secret, k, err := s.Keys.Create(keys.Grant{Name: "program", Budget: &budget})
	if err != nil {
		t.Fatal(err)
	}
	_, other := s.AsKey("someone else")
	b := s.Stranger()
	b.Post("/login", url.Values{"key": {secret}}).Is(http.StatusSeeOther)
	b.Get("/wallet").Is(200).Has("program", "Left of its budget", "4 TORG", k.ID).
		Lacks("9990", "someone else", other.ID, s.Owner.Address().String(), "/wallet/keys", "/wallet/send")
	for _, path := range []string{"/wallet/keys", "/wallet/keys/" + other.ID + "/revoke", "/wallet/keys/" + other.ID + "/budget", "/wallet/send", "/wallet/sign"} {
		b.Submit("/wallet", path, url.Values{"name": {"x"}, "to": {s.Owner.Address().String()}, "amount": {"1"}, "wallet": {"ethereum"}}).Is(http.StatusForbidden)
	}
	if got, _ := s.Keys.Get(other.ID); got.Disabled {
		t.Error("a key revoked another")
	}
}

func TestAWalletSeesItsAccountOnly(t *testing.T) {
	s, _ := open(t)
	key, _ := square.NewKey()
	s.Balances[key.Address()] = 5_000_000
	b := s.AsWallet(key)
	b.Get("/wallet").Is(200).Has("5 TORG", key.Address().String()).Lacks("9990", "API keys", "/leases/", "0.25")
	b.Submit("/wallet", "/wallet/keys", url.Values{"name": {"x"}}).Is(http.StatusForbidden)
	b.Submit("/wallet", "/wallet/send", url.Values{"to": {key.Address().String()}, "amount": {"1"}, "sure": {"1"}}).Is(http.StatusForbidden)
}

func TestKeys(t *testing.T) {
	s, _ := open(t)
	b := s.AsOwner()
	r := b.Submit("/wallet", "/wallet/keys", url.Values{"name": {"<i>bot</i>"}, "budget": {"2.5"}, "requests": {"60"}}).Is(200)
	secret := ""
	r.Each("code", func(n *html.Node) {
		if consoletest.Attr(n, "id") == "new-secret" {
			secret = consoletest.TextOf(n)
		}
	})
	k, err := s.Keys.Check(secret)
	if err != nil || k.Name != "<i>bot</i>" || *k.Budget != 2_500_000 || k.Requests != 60 {
		t.Fatalf("%+v %v", k, err)
	}
	r.Has("<i>bot</i>", "shown this once", "60 requests").Lacks("<i>bot")
	b.Get("/wallet").Is(200).Lacks(secret)

	b.Submit("/wallet", "/wallet/keys/"+k.ID+"/budget", url.Values{"budget": {"7"}}).Is(http.StatusSeeOther)
	if k, _ = s.Keys.Get(k.ID); *k.Budget != 7_000_000 {
		t.Errorf("the budget is %d", *k.Budget)
	}
	b.Get("/wallet").Has("has its new budget")
	b.Submit("/wallet", "/wallet/keys/"+k.ID+"/budget", url.Values{"budget": {""}}).Is(http.StatusSeeOther)
	if k, _ = s.Keys.Get(k.ID); k.Budget != nil {
		t.Errorf("the budget is %d, want none", *k.Budget)
	}
	browser := s.Stranger()
	browser.Post("/login", url.Values{"key": {secret}}).Is(http.StatusSeeOther)
	b.Submit("/wallet", "/wallet/keys/"+k.ID+"/revoke", nil).Is(http.StatusSeeOther)
	b.Get("/wallet").Has("is revoked", "revoked")
	browser.Get("/wallet").Is(http.StatusSeeOther) // its session ended with it
	b.Submit("/wallet", "/wallet/keys/key_none/revoke", nil).Is(http.StatusNotFound)
	for name, f := range map[string]url.Values{
		"name": {"name": {""}}, "long": {"name": {strings.Repeat("x", 65)}}, "budget": {"name": {"x"}, "budget": {"much"}},
		"negative": {"name": {"x"}, "budget": {"-1"}}, "requests": {"name": {"x"}, "requests": {"0"}}, "tokens": {"name": {"x"}, "tokens": {"1e9"}},
	} {
		if r := b.Submit("/wallet", "/wallet/keys", f); r.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, r.Code)
		}
	}
}

func TestSendAsksFirst(t *testing.T) {
	s, bank := open(t)
	b, to := s.AsOwner(), square.Address{4}
	f := url.Values{"to": {to.Hex()}, "amount": {"2.5"}}
	confirm := b.Submit("/wallet", "/wallet/send", f).Is(200).Has("Send 2.5 TORG?", to.String())
	if len(bank.sent) != 0 {
		t.Fatal("it was sent before it was sure")
	}
	f.Set("sure", "1")
	b.Submit("/wallet", "/wallet/send", f).Is(http.StatusConflict) // never asked whether it is sure
	confirm.Send(b, "/wallet/send", f).Is(http.StatusSeeOther)
	if len(bank.sent) != 1 || bank.sent[0] != "send 2.5 TORG to "+to.String() {
		t.Errorf("%q", bank.sent)
	}
	b.Get("/wallet").Has("2.5 TORG is now with", "block 7")
	bank.fail = errors.New("<b>no money</b>")
	b.Submit("/wallet", "/wallet/send", url.Values{"to": f["to"], "amount": f["amount"]}).Send(b, "/wallet/send", f).Is(http.StatusBadGateway).Has("<b>no money</b>").Lacks("<b>no")
	for _, bad := range []url.Values{{"to": {"me"}, "amount": {"1"}}, {"to": {to.Hex()}, "amount": {"0"}}, {"to": {to.Hex()}, "amount": {"1.0000001"}}, {"to": {""}, "amount": {""}}} {
		b.Submit("/wallet", "/wallet/send", bad).Is(http.StatusBadRequest)
	}
}

// A payment that is confirmed twice at once is made once, and a browser that
// leaves in between, as it does for the second click, does not stop it.
func TestSendPaysOnce(t *testing.T) {
	s, bank := open(t)
	b, to := s.AsOwner(), square.Address{4}
	f := url.Values{"to": {to.Hex()}, "amount": {"0.5"}}
	confirm := b.Submit("/wallet", "/wallet/send", f).Is(200)
	f.Set("sure", "1")
	codes := make(chan int)
	for range 8 {
		go func() { codes <- confirm.Send(b.In(t), "/wallet/send", f).Code }()
	}
	got := map[int]int{}
	for range 8 {
		got[<-codes]++
	}
	if len(bank.sent) != 1 || got[http.StatusSeeOther] != 1 || got[http.StatusConflict] != 7 {
		t.Errorf("eight clicks answer %v and send %q", got, bank.sent)
	}
	// So are keys made, which may spend.
	page := b.Get("/wallet")
	key := url.Values{"name": {"bot"}, "budget": {"2.5"}}
	page.Send(b, "/wallet/keys", key).Is(200)
	page.Send(b, "/wallet/keys", key).Is(http.StatusConflict)
}

// signed reads an answer of /wallet/sign.
type signing struct {
	Ticket string
	Typed  struct {
		Domain, Message map[string]string
		PrimaryType     string
		Types           map[string][]struct{ Name, Type string }
	}
	Body, Auth, Number string
}

func sign(t *testing.T, b *consoletest.Browser, f url.Values) (out signing) {
	t.Helper()
	if err := json.Unmarshal(b.Submit("/wallet", "/wallet/sign", f).Is(200).Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// deposit is what the typed data says, in square's words: what a wallet hashes.
func (s signing) deposit(t *testing.T) square.Deposit {
	t.Helper()
	m := s.Typed.Message
	owner, err1 := square.ParseAddress(m["owner"])
	receiver, err2 := square.ParseAddress(m["receiver"])
	channel, err3 := square.ParseHash(m["channel"])
	nonce, err4 := square.ParseHash(m["nonce"])
	units, err5 := strconv.ParseUint(m["amount"], 10, 64)
	expiry, err6 := strconv.ParseInt(m["expiry"], 10, 64)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
	return square.Deposit{Owner: owner, Channel: channel, Receiver: receiver, Amount: square.Amount{Units: units, Denom: m["denom"]}, Nonce: nonce, Expiry: expiry}
}

func TestMetaMaskSignsWhatItPays(t *testing.T) {
	s, bank := open(t)
	key, _ := square.NewKey()
	b := s.AsWallet(key)
	f := url.Values{"wallet": {"ethereum"}, "from": {key.Address().Hex()}, "to": {s.Owner.Address().String()}, "amount": {"1.5"}}
	q := sign(t, b, f)
	if q.Typed.PrimaryType != "Deposit" || q.Typed.Domain["name"] != "torg" || q.Typed.Domain["chainId"] != "" || len(q.Typed.Types["Deposit"]) != 7 {
		t.Errorf("%+v", q.Typed)
	}
	d := q.deposit(t)
	if d.Owner != key.Address() || d.Receiver != s.Owner.Address() || d.Amount != square.Utorg(1_500_000) {
		t.Errorf("a person would sign %+v", d)
	}
	other, _ := square.NewKey()
	wrong := other.Sign(d.Digest(square.LedgerDomain(consoletest.ChainID)))
	b.Submit("/wallet", "/wallet/signed", url.Values{"ticket": {q.Ticket}, "signature": {wrong.String()}}).Is(http.StatusBadRequest)
	if len(bank.sent) != 0 {
		t.Fatal("another's signature was carried")
	}
	q = sign(t, b, f)
	sig := key.Sign(q.deposit(t).Digest(square.LedgerDomain(consoletest.ChainID)))
	s.AsOwner().Submit("/wallet", "/wallet/signed", url.Values{"ticket": {q.Ticket}, "signature": {sig.String()}}).Is(http.StatusConflict) // another's ticket
	done := url.Values{"ticket": {q.Ticket}, "signature": {sig.String()}}
	b.Submit("/wallet", "/wallet/signed", done).Is(200)
	if len(bank.sent) != 1 || bank.sent[0] != "carry 1.5 TORG to "+s.Owner.Address().String() {
		t.Errorf("%q", bank.sent)
	}
	b.Submit("/wallet", "/wallet/signed", done).Is(http.StatusConflict)
	f.Set("from", other.Address().Hex())
	b.Submit("/wallet", "/wallet/sign", f).Is(http.StatusBadRequest)
}

func TestKeplrSignsABankTransfer(t *testing.T) {
	s, bank := open(t)
	key, _ := square.NewKey()
	b := s.AsWallet(key)
	q := sign(t, b, url.Values{"wallet": {"keplr"}, "pubkey": {base64.StdEncoding.EncodeToString(key.PubKey())}, "to": {square.Address{4}.Hex()}, "amount": {"1"}})
	if body, _ := base64.StdEncoding.DecodeString(q.Body); string(body) != "body 1 TORG "+(square.Address{4}).String() || q.Number != "5" {
		t.Errorf("%+v", q)
	}
	b.Submit("/wallet", "/wallet/signed", url.Values{"ticket": {q.Ticket}, "signature": {base64.StdEncoding.EncodeToString(make([]byte, 64))}}).Is(200)
	if len(bank.sent) != 1 {
		t.Errorf("%q", bank.sent)
	}
	other, _ := square.NewKey()
	for name, pub := range map[string]string{"other's": base64.StdEncoding.EncodeToString(other.PubKey()), "none": "AAAA", "not a point": base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		if r := b.Submit("/wallet", "/wallet/sign", url.Values{"wallet": {"keplr"}, "pubkey": {pub}, "to": {square.Address{4}.Hex()}, "amount": {"1"}}); r.Code != http.StatusBadRequest {
			t.Errorf("%s key: status %d", name, r.Code)
		}
	}
}

func FuzzForms(f *testing.F) {
	s, bank := open(f)
	b := s.AsOwner()
	token := b.Token("/wallet")
	f.Add("to=0x0400000000000000000000000000000000000000&amount=1&wallet=ethereum&from=0x0400000000000000000000000000000000000001")
	f.Add("wallet=keplr&pubkey=AAAA&to=torg1&amount=1e9&name=x&budget=9&requests=1")
	f.Add("ticket=x&signature=0x")
	f.Fuzz(func(t *testing.T, form string) {
		v, err := url.ParseQuery(form)
		if err != nil {
			return
		}
		v.Set("csrf", token)
		v.Del("sure")
		for _, path := range []string{"/wallet/send", "/wallet/sign", "/wallet/signed"} {
			if r := b.In(t).Post(path, v); r.Code >= 500 {
				t.Errorf("%s answers %d to %q", path, r.Code, form)
			}
		}
		if len(bank.sent) > 0 {
			t.Errorf("%q moved money: %q", form, bank.sent)
		}
	})
}

// Many keys are shown some at a time, and found by their name.
func TestManyKeys(t *testing.T) {
	s := consoletest.Open(t, consoletest.New(), nil)
	var last keys.Key
	for n := range 120 {
		var err error
		if _, last, err = s.Keys.Create(keys.Grant{Name: fmt.Sprintf("program %03d", n)}); err != nil {
			t.Fatal(err)
		}
	}
	b := s.AsOwner()
	seen, pages := map[string]bool{}, 0
	for path := "/wallet"; path != "" && pages < 9; pages++ {
		r, next := b.Get(path).Is(200), ""
		on := 0
		r.Each("th", func(n *html.Node) {
			if consoletest.Attr(n, "scope") == "row" {
				seen[consoletest.TextOf(n)] = true
				on++
			}
		})
		if on > 50 {
			t.Errorf("%d keys are on a page", on)
		}
		r.Each("a", func(n *html.Node) {
			if consoletest.Attr(n, "rel") == "next" {
				next, _, _ = strings.Cut(consoletest.Attr(n, "href"), "#")
			}
		})
		path = next
	}
	if len(seen) != 121 || pages != 3 { // and the owner's
		t.Errorf("%d keys on %d pages", len(seen), pages)
	}
	b.Get("/wallet?keys=PROGRAM+11").Is(200).Has("program 119").Lacks("program 011", "program 120")
	b.Get("/wallet?keys=" + last.ID).Is(200).Has(last.Name).Lacks("program 001")
	b.Get("/wallet?keys=nothing").Is(200).Has("Nothing like that")
	b.Get("/wallet?keys=" + strings.Repeat("x", 200)).Is(http.StatusBadRequest)
}
