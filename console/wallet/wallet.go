// Package wallet is the console's money page: one balance, what of it is set
// aside and for what, every change of it in a sentence, API keys with their
// budgets, and transfers.
//
// A transfer leaves this machine's own wallet (the owner's session), or one in
// the browser. MetaMask signs EIP-712 typed data, a square.Deposit that names
// whom it pays and how much: it funds a channel to that receiver alone, which
// this machine claims for the receiver at once. Keplr signs a bank transfer.
//
//	POST /wallet/sign      {wallet, from, pubkey, to, amount} → {ticket, typed | body, auth, number}
//	POST /wallet/signed    {ticket, signature} → {words}
package wallet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
)

// Config is what the page stands on.
type Config struct {
	Owner    square.Address
	Ledger   source.Ledger
	History  source.History
	Desk     source.Desk
	Keys     source.Keys
	Bank     source.Bank // nil: nothing can be sent from here
	Sessions *session.Store
	Now      func() time.Time
}

// Page is the pages below /wallet.
type Page struct {
	Config

	mu      sync.Mutex
	tickets map[string]ticket
}

// New makes the page.
func New(cfg Config) *Page { return &Page{Config: cfg, tickets: map[string]ticket{}} }

// Link is its place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/wallet", Title: "Wallet"} }

// Routes are its doors.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /wallet", p.show)
	r.Handle("POST /wallet/send", p.send)
	r.Handle("POST /wallet/sign", p.sign)
	r.Handle("POST /wallet/signed", p.signed)
	r.Handle("POST /wallet/keys", p.createKey)
	r.Handle("POST /wallet/keys/{id}/budget", p.setBudget)
	r.Handle("POST /wallet/keys/{id}/revoke", p.revoke)
}

// Bounds of what the page lists.
const (
	maxLeases   = 1000 // that are summed up
	maxRows     = 20   // that are listed
	maxChannels = 100
	maxHistory  = 50
	maxKeys     = 50
)

// standing is a lease that holds money of the account's.
type standing struct {
	source.Lease
	Outstanding uint64 // charged by receipts and not yet redeemed
}

// change is an event with what it did to the balance.
type change struct {
	source.Event
	In, Out uint64
}

// view is what the page shows.
type view struct {
	Viewer      session.Viewer
	Address     square.Address
	Available   square.Amount
	Reserved    uint64 // in escrow
	Outstanding uint64
	InChannels  uint64
	Leases      []standing
	More        int              // leases that are not listed
	Paying      []source.Channel // of which the account is the payer
	Earning     []source.Channel // of which it is the receiver
	Changes     []change
	Keys        []keys.Key
	KeysLike    string    // what their names or ids contain,
	KeysAfter   string    // after which key they begin, empty: the first,
	KeysNext    string    // and after which the next page does; empty: there is none
	Key         *keys.Key // of a key's own session
	New         *created
	Send        transfer
	Wrong       string // what did not go
	CanSend     bool   // out of this machine's wallet
	Owner       square.Address
	Chain       string
}

// created is a key whose secret is shown this once.
type created struct {
	keys.Key
	Secret string
}

// transfer is what a form asks to send, as it was written.
type transfer struct {
	To, Amount string
	Sure       bool
	to         square.Address
	amount     square.Amount
}

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	return p.render(w, r, view{}, 0)
}

// render fills in what the viewer may see and writes the page: five questions
// to the ledger at most, and so many rows of everything, whatever there is.
func (p *Page) render(w http.ResponseWriter, r *http.Request, v view, status int) error {
	ctx := r.Context()
	v.Viewer, v.Owner, v.Chain = ui.Of(ctx).Viewer(), p.Owner, p.Ledger.ChainID()
	if v.Viewer.Role == session.Key {
		k, err := p.Keys.Get(v.Viewer.Key)
		if err != nil {
			return err
		}
		v.Key = &k
		return ui.Render(w, r, ui.View{Title: "Wallet", Status: status}, keyBody(v))
	}
	v.Address = v.Viewer.Address
	v.CanSend = v.Viewer.IsOwner() && p.Bank != nil
	var err error
	if v.Available, err = p.Ledger.Balance(ctx, v.Address, square.Denom); err != nil {
		return err
	}
	leases, _, err := p.Ledger.Leases(ctx, source.LeaseFilter{Buyer: v.Address}, source.Page{Limit: maxLeases})
	if err != nil {
		return err
	}
	owed := p.Desk.Standing()
	for _, l := range leases {
		if l.Escrow == 0 || l.Order.Denom != square.Denom {
			continue
		}
		s := standing{Lease: l}
		if v.Viewer.IsOwner() {
			if c := owed[l.ID].Charged; c > l.Paid {
				s.Outstanding = min(c-l.Paid, l.Escrow)
			}
		}
		v.Reserved += l.Escrow
		v.Outstanding += s.Outstanding
		v.Leases = append(v.Leases, s)
	}
	slices.SortFunc(v.Leases, func(a, b standing) int { return cmp.Compare(b.Escrow, a.Escrow) })
	if v.More = max(0, len(v.Leases)-maxRows); v.More > 0 {
		v.Leases = v.Leases[:maxRows]
	}
	if v.Paying, _, err = p.Ledger.Channels(ctx, v.Address, square.Address{}, source.Page{Limit: maxChannels}); err != nil {
		return err
	}
	v.Paying = open(v.Paying)
	for _, c := range v.Paying {
		if c.Denom == square.Denom {
			v.InChannels += c.Deposit - c.Claimed
		}
	}
	if v.Earning, _, err = p.Ledger.Channels(ctx, square.Address{}, v.Address, source.Page{Limit: maxChannels}); err != nil {
		return err
	}
	v.Earning = open(v.Earning)
	events, err := p.History.Account(v.Address, 4*maxHistory)
	if err != nil {
		return err
	}
	for _, e := range events {
		if !e.News() || len(v.Changes) == maxHistory {
			continue
		}
		in, out := ui.Change(e, v.Address)
		v.Changes = append(v.Changes, change{e, in, out})
	}
	if v.Viewer.IsOwner() {
		q := r.URL.Query()
		if v.KeysLike, v.KeysAfter = q.Get("keys"), q.Get("after"); len(v.KeysLike) > keys.MaxName || len(v.KeysAfter) > keys.MaxName {
			return ui.BadInput("keys", fmt.Sprintf("it has at most %d bytes", keys.MaxName))
		}
		v.Keys, v.KeysNext = p.Keys.List(v.KeysLike, v.KeysAfter, maxKeys)
	}
	return ui.Render(w, r, ui.View{Title: "Wallet", Islands: []string{"wallet"}, Status: status}, body(v))
}

// open are the channels that still hold something.
func open(cs []source.Channel) (out []source.Channel) {
	for _, c := range cs {
		if c.Claimed < c.Deposit {
			out = append(out, c)
		}
	}
	return out
}

// owner refuses everyone but the owner.
func owner(r *http.Request) error {
	if !ui.Of(r.Context()).Viewer().IsOwner() {
		return ui.Forbidden("Only this machine’s owner can do that.")
	}
	return nil
}

// read reads a transfer, naming what does not fit.
func read(r *http.Request) (transfer, error) {
	t := transfer{To: strings.TrimSpace(r.PostForm.Get("to")), Amount: strings.TrimSpace(r.PostForm.Get("amount")), Sure: r.PostForm.Get("sure") == "1"}
	var err error
	if len(t.To) > 100 || len(t.Amount) > 60 {
		return transfer{}, ui.BadInput("To and amount", "they are too long")
	}
	if t.to, err = square.ParseAddress(t.To); err != nil || t.to.IsZero() {
		return t, ui.BadInput("To", "write an address, torg1… or 0x…")
	}
	if t.amount, err = square.ParseAmount(t.Amount); err != nil || t.amount.Units == 0 {
		return t, ui.BadInput("Amount", "write TORG with at most six decimals, such as 2.5")
	}
	return t, nil
}

// send pays out of this machine's wallet: first it says what it would do, then,
// told to, it does.
func (p *Page) send(w http.ResponseWriter, r *http.Request) error {
	if err := owner(r); err != nil {
		return err
	}
	if p.Bank == nil {
		return ui.Forbidden("This console cannot move money.")
	}
	t, err := read(r)
	var wrong *ui.Failure
	if errors.As(err, &wrong) {
		return p.render(w, r, view{Send: t, Wrong: wrong.Words}, http.StatusBadRequest)
	}
	if !t.Sure {
		return ui.Render(w, r, ui.View{Title: "Send"}, confirm(t))
	}
	if err := ui.SentOnce(r); err != nil {
		return err
	}
	// The browser may leave, as it does when the button is clicked again: what
	// was begun is ended, and told by the next page.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), sendTime)
	defer cancel()
	tx, err := p.Bank.Send(ctx, t.to, t.amount)
	if err != nil {
		return p.render(w, r, view{Send: t, Wrong: err.Error()}, http.StatusBadGateway)
	}
	ui.Of(r.Context()).Session.Notify(sent(t, tx))
	http.Redirect(w, r, "/wallet", http.StatusSeeOther)
	return nil
}

// sendTime bounds one transfer, until it is in a block.
const sendTime = time.Minute

func sent(t transfer, tx source.Tx) string {
	return fmt.Sprintf("%s is now with %s: block %d, transaction %s.", ui.Coins(t.amount.Units, t.amount.Denom), ui.Short(t.to.String()), tx.Height, tx.Hash.Short())
}

// ticket is a transfer that a wallet in a browser is asked to sign.
type ticket struct {
	by    string // the session
	what  transfer
	until time.Time
	// MetaMask
	channel square.ChannelConfig
	deposit square.Deposit
	// Keplr
	draft *source.Draft
}

const (
	maxTickets = 128
	ticketLife = 5 * time.Minute
	channelLag = 15 * 60 // the ledger's least withdraw delay, in seconds
)

// sign prepares what a wallet is to sign.
func (p *Page) sign(w http.ResponseWriter, r *http.Request) error {
	req := ui.Of(r.Context())
	if req.Viewer().Role == session.Key || p.Bank == nil {
		return ui.Forbidden("Log in with the wallet, or as the owner, to move money.")
	}
	t, err := read(r)
	if err != nil {
		return err
	}
	k := ticket{by: req.Session.CSRF, what: t, until: p.Now().Add(ticketLife)}
	switch r.PostForm.Get("wallet") {
	case "ethereum":
		return p.typed(w, r, k)
	case "keplr":
		return p.drafted(w, r, k)
	}
	return ui.BadInput("Wallet", "it is ethereum or keplr")
}

// keep files a ticket.
func (p *Page) keep(k ticket) (name string) {
	name = session.Token()
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, o := range p.tickets {
		if p.Now().After(o.until) || len(p.tickets) >= maxTickets {
			delete(p.tickets, n)
		}
	}
	p.tickets[name] = k
	return name
}

// take gives a session's ticket out, once.
func (p *Page) take(r *http.Request, name string) (ticket, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.tickets[name]
	if !ok || k.by != ui.Of(r.Context()).Session.CSRF {
		return ticket{}, false
	}
	delete(p.tickets, name)
	return k, !p.Now().After(k.until)
}

// signed carries what a wallet signed to the ledger.
func (p *Page) signed(w http.ResponseWriter, r *http.Request) error {
	k, ok := p.take(r, r.PostForm.Get("ticket"))
	if !ok {
		return &ui.Failure{Status: http.StatusConflict, Title: "Too late", Words: "This transfer was sent already, or was signed too late. Begin again."}
	}
	tx, err := p.carry(r.Context(), k, r.PostForm.Get("signature"))
	if err != nil {
		return err
	}
	words := sent(k.what, tx)
	ui.Of(r.Context()).Session.Notify(words)
	return ui.JSON(w, map[string]string{"words": words, "tx": tx.Hash.String()})
}

func (p *Page) carry(ctx context.Context, k ticket, signature string) (source.Tx, error) {
	if k.draft != nil {
		sig, err := fromBase64("Signature", signature, 64)
		if err != nil {
			return source.Tx{}, err
		}
		return p.Bank.SubmitDraft(ctx, *k.draft, sig)
	}
	sig, err := square.ParseSignature(signature)
	if err == nil {
		// Before anything is sent, so that nonsense costs the ledger nothing.
		err = k.deposit.Verify(square.LedgerDomain(p.Ledger.ChainID()), sig)
	}
	if err != nil {
		return source.Tx{}, ui.BadInput("Signature", "it is not the wallet's over this transfer")
	}
	return p.Bank.Carry(ctx, k.channel, k.deposit, sig)
}

// createKey makes an API key and shows its secret, this once.
func (p *Page) createKey(w http.ResponseWriter, r *http.Request) error {
	if err := owner(r); err != nil {
		return err
	}
	f := r.PostForm
	g := keys.Grant{Name: strings.TrimSpace(f.Get("name"))}
	if g.Name == "" || len(g.Name) > 64 {
		return ui.BadInput("Name", "write 1 to 64 bytes that tell the key from others")
	}
	var err error
	if g.Budget, err = budget(f.Get("budget")); err != nil {
		return err
	}
	if g.Requests, err = limit("Requests a minute", f.Get("requests")); err != nil {
		return err
	}
	if g.Tokens, err = limit("Tokens a minute", f.Get("tokens")); err != nil {
		return err
	}
	if err := ui.SentOnce(r); err != nil {
		return err
	}
	secret, k, err := p.Keys.Create(g)
	if errors.Is(err, keys.ErrGrant) {
		return ui.BadInput("Key", err.Error())
	} else if err != nil {
		return err
	}
	// Not a redirect: the secret is in this answer and nowhere else.
	return p.render(w, r, view{New: &created{k, secret}}, 0)
}

// budget reads an optional sum.
func budget(s string) (*uint64, error) {
	if s = strings.TrimSpace(s); s == "" {
		return nil, nil
	}
	a, err := square.ParseAmount(s)
	if err != nil {
		return nil, ui.BadInput("Budget", "write TORG with at most six decimals, such as 2.5, or nothing for no limit")
	}
	return &a.Units, nil
}

// limit reads an optional number a minute.
func limit(field, s string) (uint64, error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, ui.BadInput(field, "write a whole number above 0, or nothing for no limit")
	}
	return n, nil
}

func (p *Page) setBudget(w http.ResponseWriter, r *http.Request) error {
	if err := owner(r); err != nil {
		return err
	}
	b, err := budget(r.PostForm.Get("budget"))
	if err != nil {
		return err
	}
	return p.changed(w, r, "has its new budget", func(id string) (keys.Key, error) { return p.Keys.SetBudget(id, b) })
}

func (p *Page) revoke(w http.ResponseWriter, r *http.Request) error {
	if err := owner(r); err != nil {
		return err
	}
	return p.changed(w, r, "is revoked", func(id string) (keys.Key, error) {
		k, err := p.Keys.Revoke(id)
		if err == nil {
			p.Sessions.EndKey(id)
		}
		return k, err
	})
}

// changed changes the key that the path names and goes back to the page.
func (p *Page) changed(w http.ResponseWriter, r *http.Request, words string, f func(id string) (keys.Key, error)) error {
	k, err := f(r.PathValue("id"))
	switch {
	case errors.Is(err, keys.ErrUnknown):
		return ui.NotFound("key")
	case errors.Is(err, keys.ErrGrant):
		return ui.BadInput("Budget", err.Error())
	case err != nil:
		return err
	}
	ui.Of(r.Context()).Session.Notify(fmt.Sprintf("The key %s %s.", k.Name, words))
	http.Redirect(w, r, "/wallet#keys", http.StatusSeeOther)
	return nil
}
