package provider

import (
	"bufio"
	"bytes"
	"errors"
	"io"
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
	last  byte   // the terminator before, to read CRLF as one
}

func newEvents(r io.Reader, alive func()) *events {
	return &events{r: bufio.NewReaderSize(r, 16<<10), alive: alive}
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

// line reads one line without its end.
func (e *events) line() ([]byte, error) {
	var line []byte
	for {
		b, err := e.r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				return line, nil
			}
			return nil, err
		}
		after := e.last
		e.last = 0
		switch b {
		case '\n':
			if after == '\r' && len(line) == 0 {
				continue // the second half of CRLF
			}
			return line, nil
		case '\r':
			e.last = '\r'
			return line, nil
		}
		if len(line) >= maxEvent {
			return nil, errGiant
		}
		line = append(line, b)
	}
}
