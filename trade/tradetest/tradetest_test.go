package tradetest_test

import (
	"fmt"
	"testing"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/tradetest"
	"github.com/torg-network/torg/trade/tradetest/echo"
)

func TestEcho(t *testing.T) {
	tradetest.Run(t, tradetest.Kit{
		Rules: echo.Rules{}, Worker: echo.Worker{Rate: 1_000_000, Places: 8}, Buyer: echo.Buyer{},
		Order: square.Order{
			Trade: "echo", Spec: echo.Spec, JobValue: 1000,
			MaxRates: []square.Rate{{Unit: "bytes", PerMillion: 3_000_000}},
		},
		Job:   func(n int) []byte { return fmt.Appendf(nil, "hello %d, who is there?", n) },
		Wrong: func(result []byte) []byte { return append([]byte("x"), result[1:]...) },
	}, nil)
}
