package provider_test

import (
	"net/http"
	"testing"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/wire"
)

// provingToy is an engine whose proofs are a word: what is proven is not the
// door's to check.
type provingToy struct{ infertest.Toy }

func (provingToy) Windows(infer.Request, int) int { return 1 }

func (provingToy) Card() ([]byte, error) { return []byte("card"), nil }

func (provingToy) Prove(infer.Request, infer.Result, int, int) ([]byte, error) {
	return []byte("proof"), nil
}

// TestProofDoor: the last answer of a lane is proven to who shows its request,
// in a lease under the policy prove, and a few times at most.
func TestProofDoor(t *testing.T) {
	b := newBench(t, provingToy{infertest.Toy{Name: "toy"}}, func(c *config) { c.Services[0].Proven, c.Services[0].Capacity = rates, 4 })
	asked := request("0123456789", 4)
	serve := func(seq, most uint64) {
		t.Helper()
		_, body := b.post("infer/serve", infer.ServeRequest{Payment: wire.Payment{Lease: b.lease, Seq: seq, Voucher: b.voucher(0, most)}, Request: asked})
		receipt(t, body)
	}
	b.open(1000)
	serve(1, 20)
	status, body := b.post("infer/proof", infer.ProofRequest{Lease: b.lease, Seq: 1, Request: asked})
	refusal(t, status, body, wire.CodeBadRequest)

	b.policy = square.PolicyProve
	b.open(1000)
	serve(1, 20)
	for what, c := range map[string]struct {
		req  infer.ProofRequest
		code string
	}{
		"another request":   {infer.ProofRequest{Lease: b.lease, Seq: 1, Request: request("0123456780", 4)}, wire.CodeStale},
		"one to come":       {infer.ProofRequest{Lease: b.lease, Seq: 2, Request: asked}, wire.CodeStale},
		"none":              {infer.ProofRequest{Lease: b.lease, Request: asked}, wire.CodeStale},
		"a lane of nothing": {infer.ProofRequest{Lease: b.lease, Lane: 1, Seq: 1, Request: asked}, wire.CodeStale},
		"no lane":           {infer.ProofRequest{Lease: b.lease, Lane: 2, Seq: 1, Request: asked}, wire.CodeUnknown},
		"no lease":          {infer.ProofRequest{Lease: square.Hash{1}, Seq: 1, Request: asked}, wire.CodeUnknown},
	} {
		t.Log(what)
		status, body := b.post("infer/proof", c.req)
		refusal(t, status, body, c.code)
	}
	for seq := uint64(1); seq <= 2; seq++ { // each answer anew
		if seq > 1 {
			serve(seq, 40)
		}
		req := infer.ProofRequest{Lease: b.lease, Seq: seq, Request: asked}
		for range 3 {
			if status, body := b.post("infer/proof", req); status != http.StatusOK || string(body) != "\x00\x00\x00\x05proof" {
				t.Fatalf("status %d: %q", status, body)
			}
		}
		status, body := b.post("infer/proof", req)
		refusal(t, status, body, wire.CodeBusy)
	}
}
