package provider

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

// maxEvent bounds one line, and one event, of an upstream server's stream.
const maxEvent = 1 << 20

var errGiant = errors.New("the server sent a line of over 1 MiB")

// events reads a stream of server-sent events: the data of each, joined over
// its lines. Comments, which servers send to keep a connection alive, only
// count as a sign of life. Lines end in LF, CRLF or CR.
type events struct {
	r     *bufio.Reader
	alive func() // after every line
	cr    bool   // the line before ended in CR, and LF may follow
	long  []byte // the line
}

// spare are readers that are not in use.
var spare = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func newEvents(r io.Reader, alive func()) *events {
	b := spare.Get().(*bufio.Reader)
	b.Reset(r)
	return &events{r: b, alive: alive}
}

// close gives the reader back; nobody may read any more.
func (e *events) close() {
	e.r.Reset(nil)
	spare.Put(e.r)
}

// next returns the data of the next event that has some. At the end of the
// stream it returns io.EOF, and drops an event that was not finished, as the
// standard wants; but data on the last line without a blank line after it is
// an event, since some servers end that way.
func (e *events) next() ([]byte, error) {
	var data []byte
	have := false
	for {
		line, err := e.line()
		e.alive()
		if err != nil {
			if errors.Is(err, io.EOF) && have {
				return data, nil
			}
			return nil, err
		}
		if len(line) == 0 {
			if have {
				return data, nil
			}
			continue
		}
		rest, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue // a comment, or event, id, retry
		}
		rest = bytes.TrimPrefix(rest, []byte(" "))
		if have {
			data = append(data, '\n')
		}
		if have = true; len(data)+len(rest) > maxEvent {
			return nil, errGiant
		}
		data = append(data, rest...)
	}
}

// line reads one line without its end. It is good until the next.
func (e *events) line() ([]byte, error) {
	e.long = e.long[:0]
	for {
		b, err := e.r.Peek(max(e.r.Buffered(), 1))
		if err != nil {
			if errors.Is(err, io.EOF) && len(e.long) > 0 {
				return e.long, nil
			}
			return nil, err
		}
		if e.cr && b[0] == '\n' { // the second half of CRLF
			e.cr = false
			_, _ = e.r.Discard(1) // it is there
			continue
		}
		e.cr = false
		end := bytes.IndexAny(b, "\r\n")
		n := end
		if end < 0 {
			n = len(b)
		}
		if len(e.long)+n > maxEvent {
			return nil, errGiant
		}
		e.long = append(e.long, b[:n]...)
		if end < 0 {
			_, _ = e.r.Discard(n)
			continue
		}
		e.cr = b[end] == '\r'
		_, _ = e.r.Discard(end + 1)
		return e.long, nil
	}
}

// more reports whether another whole event is here already: a line of data, and
// a blank one after it. A comment alone is none, after which nothing may come.
func (e *events) more() bool {
	b, _ := e.r.Peek(e.r.Buffered()) // so many there are
	if e.cr {
		b = bytes.TrimPrefix(b, []byte("\n"))
	}
	for len(b) > 0 {
		if bytes.HasPrefix(b, []byte("data:")) {
			return bytes.Contains(b, []byte("\n\n")) || bytes.Contains(b, []byte("\n\r\n"))
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return false
		}
		b = b[end+1:]
	}
	return false
}
