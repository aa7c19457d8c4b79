package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/history"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/plug"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/judge"
)

// openSquare is a whole square in this process: ledger, one provider that sells all
// trades, one desk that buys them, a judge, and the gateway in front.
type openSquare struct {
	cfg      config
	log      *slog.Logger
	run      running
	keyring  keyring
	ledger   *ledgernode.Node
	client   *client.Client
	lag      lagMeter
	history  *history.History
	found    plug.Square // as trades find it
	stalls   []stall
	node     *node.Node
	judge    *judge.Judge
	desk     *desk.Desk
	keys     *keys.Store
	console  *console.Console
	gateway  *gateway.Gateway
	listener net.Listener
	closing  []closer // what is open, in the order in which it opened
}

// start opens the square on the home directory, which the caller has locked.
// On an error everything that was opened is closed again.
func start(ctx context.Context, cfg config, log *slog.Logger) (s *openSquare, err error) {
	s = &openSquare{cfg: cfg, log: log}
	if s.keyring, err = openKeyring(cfg, true); err != nil {
		return nil, err
	}
	for _, open := range []func(context.Context) error{
		s.openLedger,
		s.openStalls,
		s.openProvider,
		s.openJudge,
		s.openDesk,
		s.openGateway,
	} {
		if err := open(ctx); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// parts are what runs, in the order in which it ends: doors first.
func (s *openSquare) parts() []*part {
	ps := []*part{
		{name: "console", run: s.console.Run}, // ends what it streams, so that the gateway need not wait
		{name: "gateway", run: func(ctx context.Context) error { return s.gateway.Serve(ctx, s.listener) }},
	}
	for _, st := range s.stalls {
		if st.Run != nil {
			ps = append(ps, &part{name: "trade " + st.name, run: st.Run})
		}
	}
	return append(ps,
		&part{name: "buyer", run: func(ctx context.Context) error {
			err := s.desk.Run(ctx)
			s.desk.Close() // while the provider that it settles with still serves
			return err
		}},
		&part{name: "provider", run: s.node.Run},
		&part{name: "judge", run: s.judge.Run},
		&part{name: "history", run: s.history.Run},
	)
}

// announce writes down where the square listens. The file goes when it closes.
func (s *openSquare) announce() error {
	s.run.PID, s.run.Started = os.Getpid(), time.Now()
	return writeFile(s.cfg.path(runningFile), s.run)
}

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
	stop context.CancelFunc
	done chan struct{}
}

// serve runs the square until ctx ends or a part fails, then ends the parts in
// order and waits for each.
func (s *openSquare) serve(ctx context.Context) error {
	parts := s.parts()
	failed := make(chan error, len(parts))
	for _, p := range parts {
		var pctx context.Context
		pctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
		p.done = make(chan struct{})
		go func() {
			defer close(p.done)
			if err := p.run(pctx); pctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", p.name, errors.Join(err, errors.New("stopped by itself")))
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-s.ledger.Done():
		err = fmt.Errorf("ledger: %w", errors.Join(s.ledger.Err(), errors.New("stopped by itself")))
	}
	for _, p := range parts {
		p.stop()
		<-p.done
	}
	return err
}

// closer gives back something that is open.
type closer struct {
	name  string
	close func() error
}

// closes says how what was just opened is closed.
func (s *openSquare) closes(name string, f func() error) {
	s.closing = append(s.closing, closer{name, f})
}

// close gives back whatever is open, the last first.
func (s *openSquare) close() {
	os.Remove(s.cfg.path(runningFile))
	for i := len(s.closing) - 1; i >= 0; i-- {
		if err := s.closing[i].close(); err != nil {
			s.log.Error("could not be closed", "part", s.closing[i].name, "err", err)
		}
	}
	s.closing = nil
}
