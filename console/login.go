package console

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/square"
)

func (c *Console) login(w http.ResponseWriter, r *http.Request) error {
	if ui.Of(r.Context()).Session != nil {
		http.Redirect(w, r, local(r.URL.Query().Get("next")), http.StatusSeeOther)
		return nil
	}
	return ui.Render(w, r, ui.View{Title: "Log in", Islands: []string{"signin"}}, loginPage(local(r.URL.Query().Get("next")), ""))
}

// try counts one try to log in.
func (c *Console) try(w http.ResponseWriter, r *http.Request) error {
	wait := c.limit.Allow(r)
	if wait == 0 {
		return nil
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	return &ui.Failure{Status: http.StatusTooManyRequests, Title: "Too many tries", Words: "Wait a minute, then try again."}
}

func (c *Console) loginByKey(w http.ResponseWriter, r *http.Request) error {
	if err := c.try(w, r); err != nil {
		return err
	}
	next, secret := local(r.PostForm.Get("next")), strings.TrimSpace(r.PostForm.Get("key"))
	k, err := c.cfg.Keys.Check(secret)
	if err != nil {
		// One answer for every kind of wrong: what a key is, is not told to
		// who does not have it.
		return ui.Render(w, r, ui.View{Title: "Log in", Status: http.StatusUnauthorized, Islands: []string{"signin"}},
			loginPage(next, "No key that is in use reads like this. It begins with torg- and is shown once, when it is made; torg key create makes another."))
	}
	name := k.Name
	if name == "" {
		name = k.ID
	}
	c.begin(w, r, session.NewKey(k.ID, name, secret))
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

func (c *Console) begin(w http.ResponseWriter, r *http.Request, v session.Viewer) {
	c.sessions.Begin(w, r, v)
	c.log.InfoContext(r.Context(), "console session begins", "role", v.Role, "key", v.Key, "account", v.Address.String())
}

// enter is where the link that torg up prints leads. The answer is a page that
// goes on by itself: were it a redirect, a browser that came from another site's
// page would not send the strict cookie along.
func (c *Console) enter(w http.ResponseWriter, r *http.Request) error {
	if err := c.try(w, r); err != nil {
		return err
	}
	if err := c.sessions.UseLink(r.URL.Query().Get("token")); err != nil {
		return &ui.Failure{Status: http.StatusForbidden, Title: "This link is spent", Words: "It was used already or is older than a quarter of an hour. On this machine, torg console prints a new one."}
	}
	c.begin(w, r, c.owner())
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Refresh", "0; url=/")
	return ui.Render(w, r, ui.View{Title: "Welcome"}, enterPage())
}

func (c *Console) owner() session.Viewer {
	return session.NewOwner(c.cfg.Owner, c.cfg.OwnerKey)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) error {
	c.sessions.End(w, r)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// walletMessage answers {"nonce","message"} for the account of a wallet.
func (c *Console) walletMessage(w http.ResponseWriter, r *http.Request) error {
	if err := c.try(w, r); err != nil {
		return err
	}
	who, err := square.ParseAddress(r.PostForm.Get("address"))
	if err != nil || who.IsZero() {
		return ui.BadInput("address", "it is 0x and 40 hex digits, or torg1…")
	}
	if !ownPort(r) {
		return &ui.Failure{Status: http.StatusForbidden, Title: "Not at this address",
			Words: "A wallet signs for the address in the browser, and this square does not listen at that port. Use the link of torg console, or the square’s own port."}
	}
	origin := "http://" + r.Host
	if r.TLS != nil {
		origin = "https://" + r.Host
	}
	nonce, message := c.sessions.Challenge(who, origin, r.Host, c.cfg.Ledger.ChainID())
	return ui.JSON(w, map[string]string{"nonce": nonce, "message": message, "account": who.String()})
}

// ownPort reports whether a request is addressed to the port that it came in by.
// Whoever serves another port of this host could pass our message on to a wallet
// whose owner is at its page, and the signature on to us. Names are the
// operator's own, and may be a proxy's.
func ownPort(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true // no listener: a call inside this process
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = strings.Trim(r.Host, "[]"), "80"
	}
	if _, err := netip.ParseAddr(host); err != nil && !strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	_, own, err := net.SplitHostPort(local.String())
	return err == nil && own == port
}

// loginByWallet takes the signature and answers {"next"}.
func (c *Console) loginByWallet(w http.ResponseWriter, r *http.Request) error {
	if err := c.try(w, r); err != nil {
		return err
	}
	who, err := c.sessions.Answer(r.PostForm.Get("nonce"), r.PostForm.Get("signature"))
	if err != nil {
		return &ui.Failure{Status: http.StatusUnauthorized, Title: "Not signed in", Words: err.Error()}
	}
	if who == c.cfg.Owner {
		c.begin(w, r, c.owner())
	} else {
		c.begin(w, r, session.Viewer{Role: session.Wallet, Address: who, Name: ui.Short(who.String())})
	}
	return ui.JSON(w, map[string]string{"next": local(r.PostForm.Get("next"))})
}
