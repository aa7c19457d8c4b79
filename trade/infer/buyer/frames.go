package buyer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/torg-network/torg/trade/infer"
)

// maxFrame bounds one line of an answer: a receipt carries the result and an
// upstream server's body, both in base64.
const maxFrame = 4 * infer.MaxResult

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
