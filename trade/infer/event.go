package infer

import "github.com/torg-network/torg/trade/strict"

// Event is what matters of one streamed event of an upstream server, or of one
// whole answer. Package meter reads it.
type Event struct {
	Object  strict.Object // all of it
	Choices int           // how many it is about
	Text    string        // everything it adds to the answer: reasoning, content, refusal and calls, in order
	Said    string        // the content alone, what a chat shows
	Finish  string
	Usage   *Usage // nil: none that could be meant
	Err     string // the server's own error, which some send with status 200
}

// Usage is what a server says it used. A count that is absent, or is no whole
// number from 0, is negative here.
type Usage struct {
	Prompt, Completion int64
}
