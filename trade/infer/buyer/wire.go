package buyer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

// maxFrame bounds one line of an answer: a receipt carries the result and an
// upstream server's body, both in base64.
const maxFrame = 4 * infer.MaxResult

// post sends one call of the wire.
func (d *Desk) post(ctx context.Context, endpoint, call string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(endpoint, "/")+infer.PathPrefix+call, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := d.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	var we infer.WireError
	said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if json.Unmarshal(said, &we) != nil || we.Code == "" {
		// Not this wire: a proxy's or another server's answer proves nothing
		// about what happened behind it.
		return nil, fmt.Errorf("%s: status %d", call, res.StatusCode)
	}
	we.Message = clipLong(we.Message)
	return nil, &we
}

// call is post with a reply of JSON.
func (d *Desk) call(ctx context.Context, endpoint, call string, body, reply any) error {
	res, err := d.post(ctx, endpoint, call, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if reply == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxFrame+1))
	if err == nil && len(b) > maxFrame {
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

func clipLong(s string) string {
	if len(s) > 500 {
		return s[:500] + "…"
	}
	return s
}

// frames reads an answer line by line.
type frames struct{ r *bufio.Reader }

func newFrames(r io.Reader) frames { return frames{bufio.NewReaderSize(r, 8<<10)} }

func (f frames) next() (infer.Frame, error) {
	var line []byte
	for {
		part, err := f.r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxFrame {
			return infer.Frame{}, errors.New("a frame is too long")
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return infer.Frame{}, err
		}
	}
	var fr infer.Frame
	if err := json.Unmarshal(line, &fr); err != nil {
		return infer.Frame{}, fmt.Errorf("a frame is no JSON: %w", err)
	}
	return fr, nil
}

// askLane asks how a lane stands.
func (d *Desk) askLane(ctx context.Context, endpoint string, lease square.Hash, lane uint16) (infer.LaneReply, error) {
	var out infer.LaneReply
	err := d.call(ctx, endpoint, "lane", infer.LaneRequest{Lease: lease, Lane: lane}, &out)
	return out, err
}
