package nano

import (
	"context"
	"errors"
	"sync"

	"github.com/torg-network/torg/exact"
)

// Benchmark workloads, for `go test -bench` and `torg bench` alike. Each does
// its piece of work once and reports how many tokens that was.

// benchRequest fills one context, so that decoding and verifying it meet every
// length of attention.
var benchRequest = exact.Request{
	Prompt: []byte("It is a truth "), MaxTokens: 114, Temperature: 700, TopP: 9000,
}

var benchTokens = sync.OnceValues(func() ([]int, error) {
	res, err := Model().Generate(context.Background(), benchRequest, nil)
	return res.Tokens, err
})

// Decode generates one answer, token by token.
func Decode(ctx context.Context) (tokens int, err error) {
	res, err := Model().Generate(ctx, benchRequest, nil)
	return len(res.Tokens), err
}

// Prefill runs one full context at once.
func Prefill(context.Context) (tokens int, err error) {
	in := make([][]int32, Model().Context())
	for i := range in {
		in[i] = []int32{int32(benchRequest.Prompt[i%len(benchRequest.Prompt)])}
	}
	_, err = Model().Run(in)
	return len(in), err
}

// Verify re-executes the answer that Decode generates.
func Verify(ctx context.Context) (tokens int, err error) {
	claimed, err := benchTokens()
	if err != nil {
		return 0, err
	}
	v, err := Model().Verify(ctx, benchRequest, claimed)
	if err == nil && v.Agreed != len(claimed) {
		err = errors.New("nano: an honest answer was not confirmed")
	}
	return v.Agreed, err
}
