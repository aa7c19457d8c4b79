package judge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/torg-network/torg/square"
)

// MaxBytes bounds a request, and a result, that judges fetch. What is larger is not
// to be had.
const MaxBytes = 32 << 20

// Fetcher gets the bytes that evidence names by digest only. A locator is an http or
// https URL; the bytes with a SHA-256 are at that URL, a slash and the digest in
// lowercase hex. Whoever wrote the locator wants the judge's machine to reach
// something: only hosts of the public internet are asked, over no proxy, redirects
// are followed within the host only, and size and time are bounded. The digest makes
// it indifferent who answers.
type Fetcher struct {
	// Timeout bounds one fetch of both parts (30 s).
	Timeout time.Duration
	// Private allows hosts of this machine and of private networks, for squares that
	// are no larger.
	Private bool
}

// errNowhere says that there is no place to fetch from, now or later.
var errNowhere = errors.New("there is no place to fetch from")

// both fetches the request and the result of a receipt.
func (f Fetcher) both(ctx context.Context, where string, r square.Receipt) (request, result []byte, err error) {
	base, err := locator(where)
	if err != nil {
		return nil, nil, err
	}
	if f.Timeout <= 0 {
		f.Timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	dial := &net.Dialer{Timeout: 10 * time.Second}
	if !f.Private {
		// After names are resolved, so that no name can hide an address.
		dial.Control = func(_, address string, _ syscall.RawConn) error { return public(address) }
	}
	transport := &http.Transport{
		DialContext: dial.DialContext, DisableCompression: true, DisableKeepAlives: true,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: f.Timeout, MaxResponseHeaderBytes: 64 << 10,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if len(via) > 3 || to.URL.Host != base.Host || to.URL.Scheme != base.Scheme {
			return errors.New("it redirects to another host, or too often")
		}
		return nil
	}}
	if request, err = get(ctx, client, base, r.Request); err != nil {
		return nil, nil, fmt.Errorf("request: %w", err)
	}
	if result, err = get(ctx, client, base, r.Result); err != nil {
		return nil, nil, fmt.Errorf("result: %w", err)
	}
	return request, result, nil
}

func locator(where string) (*url.URL, error) {
	if where == "" {
		return nil, fmt.Errorf("%w: nobody said where", errNowhere)
	}
	u, err := url.Parse(where)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: locator: %w", errNowhere, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%w: locator %q is no http or https URL", errNowhere, where)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%w: locator %q has a user, a query or a fragment", errNowhere, where)
	}
	return u, nil
}

// public refuses addresses that are not of the public internet.
func public(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	a := at.Addr().Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" {
		return fmt.Errorf("%v is not of the public internet", a)
	}
	for _, p := range special {
		if p.Contains(a) {
			return fmt.Errorf("%v is not of the public internet", a)
		}
	}
	return nil
}

// special are global by their form and lead elsewhere (RFC 6890): shared, this
// network, protocol assignments, benchmarks, documentation, reserved; and IPv6 that
// carries IPv4 addresses in it.
var special = func() (out []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}()

// get fetches the bytes with a digest.
func get(ctx context.Context, client *http.Client, base *url.URL, digest square.Hash) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath(digest.String()).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "torg-judge")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %d", resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > MaxBytes:
		return nil, fmt.Errorf("more than %d bytes", MaxBytes)
	case sha256.Sum256(b) != digest:
		return nil, fmt.Errorf("its bytes are not those with SHA-256 %s", digest.Short())
	}
	return b, nil
}
