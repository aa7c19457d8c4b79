package gateway

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/torg-network/torg/trade"
)

type metrics struct {
	requests *prometheus.CounterVec
	inFlight prometheus.Gauge
	units    *prometheus.CounterVec
	cost     *prometheus.CounterVec
	failures *prometheus.CounterVec
	first    *prometheus.HistogramVec
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
		units: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "torg_gateway_units_total",
			Help: "What receipts metered, by trade and its unit."}, []string{"trade", "unit"}),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "torg_gateway_cost_units_total",
			Help: "Base units of money that receipts charged, by denom."}, []string{"denom"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "torg_gateway_seller_failures_total",
			Help: "Requests that the seller could not answer, by trade and its door."}, []string{"trade", "door"}),
		first: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "torg_gateway_first_piece_seconds",
			Help:    "Time from a request's arrival to the first piece of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}, []string{"trade", "door"}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "torg_gateway_overhead_seconds",
			Help:    "What of a request's time was spent in the gateway itself, not waiting for the seller.",
			Buckets: prometheus.ExponentialBuckets(0.00003, 2, 16)}),
	}
}

func (m *metrics) register(r *prometheus.Registry) error {
	var err error
	for _, c := range []prometheus.Collector{m.requests, m.inFlight, m.units, m.cost, m.failures, m.first, m.overhead} {
		err = errors.Join(err, r.Register(c))
	}
	return err
}

func (m *metrics) observe(s trade.Served) {
	m.overhead.Observe(s.Overhead.Seconds())
	if s.First > 0 {
		m.first.WithLabelValues(s.Trade, s.Door).Observe(s.First.Seconds())
	}
	if s.Err != nil {
		m.failures.WithLabelValues(s.Trade, s.Door).Inc()
	}
	if !s.Receipt.IsZero() {
		for _, u := range s.Units {
			m.units.WithLabelValues(s.Trade, u.Unit).Add(float64(u.Count))
		}
		m.cost.WithLabelValues(s.Cost.Denom).Add(float64(s.Cost.Units))
	}
}
