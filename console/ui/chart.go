package ui

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ChartData is a series of equal steps. Without JavaScript it is drawn as an
// SVG line; the island "chart" draws it again to be looked into.
type ChartData struct {
	ID     string // of its figure; one word
	Title  string // "Requests a second"
	Unit   string // "requests/s"
	Tone   Tone   // its colour
	Begin  time.Time
	Step   time.Duration
	Values []float64
	// Rows is how many steps one row of the table twin sums up the mean of; 0 is
	// one.
	Rows int
	// Keep is how many values a live chart holds; 0 is as many as Values.
	Keep int
}

// json is the values for the island.
func (c ChartData) json() string {
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range c.Values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatFloat(v, 'f', -1, 32))
	}
	b.WriteByte(']')
	return b.String()
}

func (c ChartData) top() float64 {
	top := 0.0
	for _, v := range c.Values {
		top = max(top, v)
	}
	return top
}

// summary is what the picture says, for who does not see it.
func (c ChartData) summary() string {
	top := c.top()
	if top == 0 {
		return fmt.Sprintf("%s: nothing in the last %s.", c.Title, span(c.Step*time.Duration(len(c.Values))))
	}
	at := 0
	for i, v := range c.Values {
		if v == top {
			at = i
		}
	}
	return fmt.Sprintf("%s over the last %s: now %s, at most %s at %s UTC.", c.Title, span(c.Step*time.Duration(len(c.Values))),
		Decimal(c.Values[len(c.Values)-1]), Decimal(top), c.Begin.Add(time.Duration(at)*c.Step).UTC().Format("15:04"))
}

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
	case d > time.Hour:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	case d == time.Hour:
		return "hour"
	}
	return fmt.Sprintf("%d minutes", int(d/time.Minute))
}

// line is the path of the values in a box of 600 by 120.
func (c ChartData) line(closed bool) string {
	top := c.top()
	if top == 0 || len(c.Values) < 2 {
		return "M0 119H600"
	}
	var b strings.Builder
	for i, v := range c.Values {
		op := "L"
		if i == 0 {
			op = "M"
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", op, 600*float64(i)/float64(len(c.Values)-1), 119-112*v/top)
	}
	if closed {
		b.WriteString("L600 120L0 120Z")
	}
	return b.String()
}

type chartRow struct {
	at time.Time
	v  float64
}

// rows are the table twin's, newest first.
func (c ChartData) rows() (out []chartRow) {
	n := max(1, c.Rows)
	for end := len(c.Values); end > 0; end -= n {
		begin := max(0, end-n)
		sum := 0.0
		for _, v := range c.Values[begin:end] {
			sum += v
		}
		out = append(out, chartRow{c.Begin.Add(time.Duration(begin) * c.Step), sum / float64(end-begin)})
	}
	return out
}

// Decimal writes a measured number with the digits that matter.
func Decimal(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a < 0.01:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case a < 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return Number(int64(math.Round(v)))
}
