package gateway

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/torg-network/torg/gateway/openai"
)

type metrics struct {
	requests *prometheus.CounterVec
	inFlight prometheus.Gauge
	tokens   *prometheus.CounterVec
	cost     *prometheus.CounterVec
	failures *prometheus.CounterVec
	ttft     *prometheus.HistogramVec
	overhead prometheus.Histogram
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "torg_gateway_requests_total",
			Help: "Requests answered, by route and HTTP status."}, []string{"route", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "torg_gateway_requests_in_flight",
			Help: "Requests being answered."}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "torg_gateway_tokens_total",
			Help: "Tokens metered by receipts, by kind (prompt, completion)."}, []string{"kind"}),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "torg_gateway_cost_units_total",
			Help: "Base units of money that receipts charged, by denom."}, []string{"denom"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "torg_gateway_seller_failures_total",
			Help: "Requests that the seller could not answer, by door."}, []string{"door"}),
		ttft: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "torg_gateway_ttft_seconds",
			Help:    "Time from a request's arrival to the first piece of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}, []string{"door"}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "torg_gateway_overhead_seconds",
			Help:    "What of a request's time was spent in the gateway itself, not waiting for the seller.",
			Buckets: prometheus.ExponentialBuckets(0.00003, 2, 16)}),
	}
}

func (m *metrics) register(r *prometheus.Registry) error {
	var err error
	for _, c := range []prometheus.Collector{m.requests, m.inFlight, m.tokens, m.cost, m.failures, m.ttft, m.overhead} {
		err = errors.Join(err, r.Register(c))
	}
	return err
}

func (m *metrics) observe(e openai.Event) {
	m.overhead.Observe(e.Overhead.Seconds())
	if e.TTFT > 0 {
		m.ttft.WithLabelValues(e.Route).Observe(e.TTFT.Seconds())
	}
	if e.Err != nil {
		m.failures.WithLabelValues(e.Route).Inc()
	}
	if !e.Receipt.IsZero() {
		m.tokens.WithLabelValues("prompt").Add(float64(e.Prompt))
		m.tokens.WithLabelValues("completion").Add(float64(e.Completion))
		m.cost.WithLabelValues(e.Cost.Denom).Add(float64(e.Cost.Units))
	}
}
