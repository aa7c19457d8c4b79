package buyer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/torg-network/torg/trade/infer"
)

// maxFrame bounds one line of an answer: a receipt carries the result and an
// upstream server's body, both in base64.
const maxFrame = 4 * infer.MaxResult

// frames reads an answer line by line.
type frames struct{ r *bufio.Reader }

// spare are readers that are not in use.
var spare = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func newFrames(r io.Reader) frames {
	b := spare.Get().(*bufio.Reader)
	b.Reset(r)
	return frames{b}
}

// close gives the reader back; nobody may read any more.
func (f frames) close() {
	f.r.Reset(nil)
	spare.Put(f.r)
}

func (f frames) next() (infer.Frame, error) {
	line, err := f.r.ReadSlice('\n')
	for long := []byte(nil); err != nil; {
		if !errors.Is(err, bufio.ErrBufferFull) {
			return infer.Frame{}, err
		}
		if long = append(long, line...); len(long) > maxFrame {
			return infer.Frame{}, errors.New("a frame is too long")
		}
		if line, err = f.r.ReadSlice('\n'); err == nil {
			line = append(long, line...)
		}
	}
	return infer.ReadFrame(line)
}

// more reports whether another whole frame is here already.
func (f frames) more() bool {
	b, _ := f.r.Peek(f.r.Buffered()) // so many there are
	return bytes.IndexByte(b, '\n') >= 0
}
