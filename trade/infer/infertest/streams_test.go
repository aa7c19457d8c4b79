package infertest_test

import (
	"testing"

	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/tradetest"
)

func TestTrade(t *testing.T) { tradetest.RunStreams(t, infertest.Streams(), nil) }
