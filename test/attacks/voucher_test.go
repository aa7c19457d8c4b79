package attacks

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/wire"
)

// TestVoucherTricks: a buyer pays with a voucher of another lane, with one that is
// old, too low, forged or above the escrow, or skips and repeats numbers.
func TestVoucherTricks(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	of := p.offer(nano.Name)
	s := th.must(th.order(of), of)
	other := th.must(th.order(of), of)
	for _, l := range []*stolen{s, other} {
		for n := range l.lanes {
			if _, err := l.ask(n, question(50)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ln, next := s.lanes[0], question(300).Encode()
	price, err := s.ceiling(question(300))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(ch square.Hash, most uint64, k square.Key) square.Voucher {
		return square.SignVoucher(p.ledger.ChannelDomain(), ch, most, k)
	}
	forger, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	enough := ln.charged + price
	fair := infer.ServeRequest{Payment: wire.Payment{Lease: s.id, Lane: 0, Seq: ln.seq + 1, Voucher: sign(ln.channel, enough, th.key)}, Request: next}
	free := 0
	for _, c := range []struct {
		name   string
		change func(*infer.ServeRequest)
	}{
		{"another lane's voucher", func(r *infer.ServeRequest) { r.Voucher = sign(s.lanes[1].channel, enough, th.key) }},
		{"another lease's voucher", func(r *infer.ServeRequest) { r.Voucher = sign(other.lanes[0].channel, enough, th.key) }},
		{"the voucher before", func(r *infer.ServeRequest) { r.Voucher = ln.voucher }},
		{"the voucher before, and its number", func(r *infer.ServeRequest) { r.Voucher, r.Seq = ln.voucher, ln.seq }},
		{"one unit too low", func(r *infer.ServeRequest) { r.Voucher = sign(ln.channel, enough-1, th.key) }},
		{"signed by another", func(r *infer.ServeRequest) { r.Voucher = sign(ln.channel, enough, forger) }},
		{"above the escrow", func(r *infer.ServeRequest) { r.Voucher = sign(ln.channel, s.order.Escrow+1, th.key) }},
		{"above everything", func(r *infer.ServeRequest) { r.Voucher = sign(ln.channel, 1<<63, th.key) }},
		{"a number skipped", func(r *infer.ServeRequest) { r.Seq = ln.seq + 2 }},
		{"number 0", func(r *infer.ServeRequest) { r.Seq = 0 }},
		{"a lane that is not", func(r *infer.ServeRequest) { r.Lane = 77 }},
		{"another lease's number", func(r *infer.ServeRequest) { r.Lease = other.id }},
		{"no voucher", func(r *infer.ServeRequest) { r.Voucher = square.Voucher{} }},
		{"another chain's voucher", func(r *infer.ServeRequest) {
			r.Voucher = square.SignVoucher(square.ChannelDomain("torg-local-other"), ln.channel, enough, th.key)
		}},
	} {
		req := fair
		c.change(&req)
		if got, err := s.serve(req); err == nil {
			t.Errorf("%s is served: %+v", c.name, got.Receipt)
			free++
		}
	}
	if _, err := s.ask(0, question(300)); err != nil {
		t.Errorf("after all tricks the fair request: %v", err)
	}
	p.after(outcome{actor: buyer, name: "vouchers of others, old, low, forged", note: fmt.Sprintf("%d of 14 served", free)})
}

// TestConsentRace: a buyer asks for the provider's consent to the sum so far while
// its other lane is being served, and closes with it.
func TestConsentRace(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(30 * torgs)
	of := p.offer(nano.Name)
	agreed := 0
	for round := range 4 {
		var s *stolen
		var err error
		p.await("a place for another lease", func() error {
			s, err = th.lease(th.order(of), of)
			return err
		})
		s.fill(1, 100)
		sum := s.charged()
		var work sync.WaitGroup
		for n := range s.lanes {
			work.Go(func() { _, _ = s.ask(n, question(400)) })
		}
		var c wire.CloseReply
		for range 40 {
			req := wire.CloseRequest{Lease: s.id, Paid: sum}
			if err = p.call(t.Context(), th.key, s.at, "close", s.id, 0, req, &c); err == nil {
				break
			}
			time.Sleep(time.Duration(round+1) * time.Millisecond)
		}
		if err == nil {
			agreed++
			if _, err := th.acct.Close(t.Context(), s.id, consent(sum, c)); err != nil {
				t.Logf("close with consent: %v", err)
			}
		} else if err := s.close(); err != nil {
			t.Fatal(err)
		}
		work.Wait()
	}
	p.after(outcome{actor: buyer, name: "consent to close while a lane works", note: fmt.Sprintf("%d of 4 consents given", agreed)})
}

// TestKillInTheMiddle: the square's machine is cut off while a buyer asks on all
// lanes; afterwards the buyer repeats its last numbers with other questions.
func TestKillInTheMiddle(t *testing.T) {
	waits(t)
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	of := p.offer(nano.Name)
	s := th.must(th.order(of), of)
	for range 2 {
		s.fill(2, 200)
		var work sync.WaitGroup
		for n := range s.lanes {
			work.Go(func() {
				for {
					if _, err := s.ask(n, question(600)); err != nil {
						return
					}
				}
			})
		}
		time.Sleep(700 * time.Millisecond)
		p.again()
		work.Wait()
		s.at.Endpoint = p.seller
		for n, ln := range s.lanes {
			// What was charged before the cut is not forgotten: the same number
			// buys nothing again.
			ln.seq--
			if got, err := s.serve(infer.ServeRequest{Payment: wire.Payment{Lease: s.id, Lane: ln.n, Seq: ln.seq + 1, Voucher: ln.voucher}, Request: question(601).Encode()}); err == nil {
				t.Errorf("lane %d: a number is served twice: %+v", n, got.Receipt)
			}
			ln.seq++
			if err := s.resync(n); err != nil {
				t.Logf("lane %d: %v", n, err)
			}
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	l := s.over(time.Duration(s.order.Drain)*time.Second + patience)
	p.after(outcome{actor: buyer, name: "kill -9 while it asks", note: fmt.Sprintf("2 kills; charged %d, paid %d", s.charged(), l.Paid)})
}
