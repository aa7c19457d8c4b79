package desk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// maxReply bounds a reply of JSON: a lane's carries its last result and what was
// delivered, both in base64.
const maxReply = 4 * wire.MaxBody

// target is whom a call asks about what, and who signs it.
type target struct {
	endpoint string
	provider square.Address
	key      square.Key
	lease    square.Hash
	lane     uint16
}

// target is where a lane of a lease is asked about.
func (d *Desk) target(l *lease, lane uint16) target {
	return target{d.endpoint(l), l.rec.Provider, d.cfg.Key, l.id, lane}
}

// post sends one call of the wire, and again where the ledger's time was another
// at the provider than here.
func (d *Desk) post(ctx context.Context, to target, call string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	res, err := d.send(ctx, to, call, b)
	if we := (*wire.Refusal)(nil); errors.As(err, &we) && we.Code == wire.CodeClock {
		if _, rerr := d.clock.Refresh(ctx); rerr == nil {
			return d.send(ctx, to, call, b)
		}
	}
	return res, err
}

func (d *Desk) send(ctx context.Context, to target, call string, body []byte) (*http.Response, error) {
	now, err := d.clock.Now(ctx)
	if err != nil {
		return nil, stall(err)
	}
	signed := wire.Call{
		Provider: to.provider, Path: call, Lease: to.lease, Lane: to.lane, Time: now.Unix(), Body: sha256.Sum256(body),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(to.endpoint, "/")+wire.PathPrefix+call, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", signed.Header(d.domain, to.key))
	res, err := d.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	var we wire.Refusal
	said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if json.Unmarshal(said, &we) != nil || we.Code == "" {
		// Not this wire: a proxy's or another server's answer proves nothing
		// about what happened behind it.
		return nil, fmt.Errorf("%s: status %d", call, res.StatusCode)
	}
	we.Message = square.Clip(we.Message, 500)
	return nil, &we
}

// call is post with a reply of JSON.
func (d *Desk) call(ctx context.Context, to target, call string, body, reply any) error {
	res, err := d.post(ctx, to, call, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if reply == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	if err == nil && len(b) > maxReply {
		err = errors.New("the reply is too long")
	}
	if err == nil {
		err = json.Unmarshal(b, reply)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	return nil
}

// askLane asks how a lane stands.
func (d *Desk) askLane(ctx context.Context, to target) (wire.LaneReply, error) {
	var out wire.LaneReply
	err := d.call(ctx, to, "lane", wire.LaneRequest{Lease: to.lease, Lane: to.lane}, &out)
	return out, err
}
