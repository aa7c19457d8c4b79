package ui

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Exact is money as the ledger counts it: "12500000 utorg".
func Exact(units uint64, denom string) string {
	return strconv.FormatUint(units, 10) + " " + denom
}

// Coins is money for people: "12.5 TORG", with thin spaces between thousands.
func Coins(units uint64, denom string) string {
	s := square.Amount{Units: units, Denom: denom}.String()
	number, name, _ := strings.Cut(s, " ")
	whole, frac, dot := strings.Cut(number, ".")
	whole = thousands(whole)
	if dot {
		whole += "." + frac
	}
	return whole + "\u00a0" + name
}

// Number writes a count with thin spaces between thousands.
func Number[T ~int | ~int64 | ~uint64](n T) string { return thousands(fmt.Sprint(n)) }

// thousands puts thin spaces into an integer of more than four digits.
func thousands(s string) string {
	if len(s) <= 4 {
		return s
	}
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteRune('\u202f')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Took writes how long something took: "0.8 ms", "42 ms", "3.1 s".
func Took(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case d <= 0:
		return "–"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + "\u00a0ms"
	case ms < 1000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + "\u00a0ms"
	case d < 2*time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "\u00a0s"
	}
	return d.Round(time.Second).String()
}

// Ago writes a time as people say it. app.ts says the same as time goes by.
func Ago(t, now time.Time) string {
	d := now.Sub(t)
	future := d < 0
	if future {
		d = -d
	}
	var s string
	switch {
	case d < 10*time.Second && !future:
		return "just now"
	case d < time.Minute:
		s = fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		s = fmt.Sprintf("%d min", d/time.Minute)
	case d < 24*time.Hour:
		s = fmt.Sprintf("%d h", d/time.Hour)
	default:
		s = fmt.Sprintf("%d d", d/(24*time.Hour))
	}
	if future {
		return "in " + s
	}
	return s + " ago"
}

// Short is an id as people tell it apart: the beginning and end of an address,
// twelve digits of a hash.
func Short(id string) string {
	switch {
	case strings.HasPrefix(id, square.Prefix+"1") && len(id) > 16:
		return id[:9] + "…" + id[len(id)-4:]
	case len(id) == 64:
		return id[:12]
	}
	return square.Clip(id, 24)
}

// Unit is a trade's unit as people read it: "prompt tokens".
func Unit(name string) string { return strings.ReplaceAll(name, "_", "\u00a0") }

// Noun is what all of some units are counted in: "tokens" of prompt_tokens and
// completion_tokens, "units" where they have nothing in common.
func Noun(units []string) string {
	noun := ""
	for _, u := range units {
		last := u[strings.LastIndexByte(u, '_')+1:]
		if noun != "" && last != noun {
			return "units"
		}
		noun = last
	}
	if noun == "" {
		return "units"
	}
	return noun
}

// Title begins words with a capital.
func Title(words string) string {
	r, n := utf8.DecodeRuneInString(words)
	return string(unicode.ToUpper(r)) + words[n:]
}

// Metered is what a receipt metered: "12 prompt + 80 completion tokens".
func Metered(units []trade.Metered) string {
	if len(units) == 0 {
		return "–"
	}
	names := make([]string, len(units))
	for i, m := range units {
		names[i] = m.Unit
	}
	noun := Noun(names)
	words := make([]string, len(units))
	for i, m := range units {
		name := strings.TrimSuffix(strings.TrimSuffix(m.Unit, noun), "_")
		words[i] = Number(m.Count)
		if name != "" {
			words[i] += "\u00a0" + Unit(name)
		}
	}
	out := strings.Join(words, " + ")
	if strings.HasSuffix(names[0], noun) {
		out += "\u00a0" + noun
	}
	return out
}

// Most is all that was metered, to sort by.
func Most(units []trade.Metered) (n uint64) {
	for _, m := range units {
		n += min(m.Count, square.MaxUnits)
	}
	return n
}

// PerMillion is a unit price as people list it: "1 TORG / M prompt tokens".
func PerMillion(r square.Rate, denom string) string {
	words := Coins(r.PerMillion, denom) + " / M\u00a0" + Unit(r.Unit)
	if r.Policy != "" {
		words += " under " + string(r.Policy)
	}
	return words
}

// Tone is what a badge's colour and mark say beside its words.
type Tone string

const (
	Plain Tone = "plain"
	Good  Tone = "good"
	Busy  Tone = "busy"
	Warn  Tone = "warn"
	Bad   Tone = "bad"
)

// mark is the sign that says what the colour says.
func (t Tone) mark() string {
	switch t {
	case Good:
		return "✓"
	case Busy:
		return "◐"
	case Warn:
		return "!"
	case Bad:
		return "✕"
	}
	return "·"
}

// StateTone is the tone of a lease's state.
func StateTone(s market.State) Tone {
	switch s {
	case market.Active:
		return Good
	case market.Settled:
		return Plain
	case market.Open, market.Matched, market.Draining, market.Claimed, market.Replicating, market.Committed, market.Showing:
		return Busy
	case market.Owed, market.Disputed, market.Failed:
		return Warn
	case market.Slashed:
		return Bad
	}
	return Plain
}

// Stands reports whether an offer can be leased now.
func Stands(o market.Offer, now time.Time) bool { return !o.Withdrawn && o.Expiry > now.Unix() }

// Why says a typed close reason in words.
func Why(r market.Reason) string {
	switch r {
	case market.ReasonAgreed:
		return "both sides signed the final sum"
	case market.ReasonClosed:
		return "the buyer closed it, after the provider's notice"
	case market.ReasonEnded:
		return "its duration was reached"
	case market.ReasonReclaimed:
		return "the provider gave notice"
	case market.ReasonAccepted:
		return "the buyer took the result"
	case market.ReasonUnchallenged:
		return "nobody objected to the result in time"
	case market.ReasonUpheld:
		return "the judges found the result right"
	case market.ReasonCancelled:
		return "the buyer cancelled it"
	case market.ReasonExpired:
		return "no provider took the order in time"
	case market.ReasonNoStart:
		return "the provider did not start in time"
	case market.ReasonIdle:
		return "nothing was redeemed for too long"
	case market.ReasonLate:
		return "no result came by the deadline"
	case market.ReasonAbandoned:
		return "the provider walked away"
	case market.ReasonJudgesSilent:
		return "the judges gave no verdict, so the signed claim stood"
	case market.ReasonWithheld:
		return "the provider did not hand the result over, and the bond was slashed"
	case market.ReasonFraud:
		return "the work was false and the bond was slashed"
	case market.ReasonUnproven:
		return "the provider did not prove challenged work in time, and the bond was slashed"
	case market.ReasonReplicated:
		return "its replicas agreed"
	case market.ReasonOutvoted:
		return "its result was not the one that the replicas agreed on, and the bond was slashed"
	case market.ReasonUnshown:
		return "the provider did not show the result that it had committed to, and the bond was slashed"
	case market.ReasonDisagreed:
		return "the replicas did not agree"
	case market.ReasonNoReplicas:
		return "too many replicas fell silent or left"
	}
	return string(r)
}

// Clock is an absolute time, for titles.
func Clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Unix is a ledger time, the zero time when it is 0.
func Unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
