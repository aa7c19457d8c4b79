// Package list is what the console's tables have in common: a bounded query in
// the address (sort, dir and page, or from, and a page's own filters), so that every view can
// be linked to and works without JavaScript, and the head, form and pager that
// make such addresses.
package list

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/torg-network/torg/console/ui"
)

// Bounds of a query, and of what a list looks through.
const (
	PageSize = 50
	MaxRows  = 20_000
	maxText  = 100 // bytes of a filter that is text
)

// Spec is what a list offers.
type Spec struct {
	Path    string // where it is
	Title   string // of the table, for those who cannot see it
	Columns []Column
	Filters []Filter
	// Chain makes it a list without numbered pages: each page says from where the
	// next goes on, as its source has it, and nothing is counted or sorted.
	Chain bool
	// Sort is the column that orders the list when the address says nothing;
	// Desc whether the greatest comes first.
	Sort string
	Desc bool
}

// Column is a column of the table. One without a name cannot be sorted by.
type Column struct {
	Name, Title string
	Number      bool
}

// Filter narrows the list: to one of its options, or without options by a text.
type Filter struct {
	Name, Title string
	Options     []Option
}

// Option is a value of a filter; empty is all.
type Option struct{ Value, Title string }

// Query is what an address asks for.
type Query struct {
	Sort    string
	Desc    bool
	Page    int    // from 1
	From    string // where a chain goes on; empty: its beginning
	Filters map[string]string
}

// Filtered reports whether something is left out.
func (q Query) Filtered() bool { return len(q.Filters) > 0 }

// Parse reads an address.
func (s Spec) Parse(v url.Values) (Query, error) {
	q := Query{Sort: s.Sort, Desc: s.Desc, Page: 1, Filters: map[string]string{}}
	if name := v.Get("sort"); name != "" {
		if !slices.ContainsFunc(s.Columns, func(c Column) bool { return c.Name == name }) {
			return q, ui.BadInput("sort", "there is no such column to sort by")
		}
		q.Sort, q.Desc = name, false
	}
	switch dir := v.Get("dir"); dir {
	case "":
	case "asc", "desc":
		q.Desc = dir == "desc"
	default:
		return q, ui.BadInput("dir", "it is asc or desc")
	}
	if p := v.Get("page"); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > MaxRows/PageSize {
			return q, ui.BadInput("page", fmt.Sprintf("it is a number from 1 to %d", MaxRows/PageSize))
		}
		q.Page = n
	}
	if s.Chain {
		if q.From = v.Get("from"); len(q.From) > maxText {
			return q, ui.BadInput("from", fmt.Sprintf("it has at most %d bytes", maxText))
		}
	}
	for _, f := range s.Filters {
		value := v.Get(f.Name)
		if value == "" {
			continue
		}
		if len(f.Options) > 0 && !slices.ContainsFunc(f.Options, func(o Option) bool { return o.Value == value }) {
			return q, ui.BadInput(f.Name, "it is none of the choices there are")
		}
		if len(value) > maxText {
			return q, ui.BadInput(f.Name, fmt.Sprintf("it has at most %d bytes", maxText))
		}
		q.Filters[f.Name] = value
	}
	return q, nil
}

// URL is the address of a query.
func (s Spec) URL(q Query) string {
	v := url.Values{}
	for name, value := range q.Filters {
		v.Set(name, value)
	}
	if q.Sort != s.Sort || q.Desc != s.Desc {
		v.Set("sort", q.Sort)
		v.Set("dir", "asc")
		if q.Desc {
			v.Set("dir", "desc")
		}
	}
	if q.Page > 1 {
		v.Set("page", strconv.Itoa(q.Page))
	}
	if q.From != "" {
		v.Set("from", q.From)
	}
	if len(v) == 0 {
		return s.Path
	}
	return s.Path + "?" + v.Encode()
}

// sorted is the query that sorts by a column: the other way round if it does
// already.
func (q Query) sorted(c Column) Query {
	q.Desc = q.Sort == c.Name && !q.Desc
	q.Sort, q.Page = c.Name, 1
	return q
}

// goingOn is the query of a chain from another place.
func (q Query) goingOn(from string) Query {
	q.From = from
	return q
}

func (q Query) at(page int) Query {
	q.Page = page
	return q
}

// aria is how a column is sorted, in ARIA's words.
func (q Query) aria(c Column) string {
	switch {
	case q.Sort != c.Name:
		return "none"
	case q.Desc:
		return "descending"
	}
	return "ascending"
}

// View is a page of rows.
type View[T any] struct {
	Rows  []T
	Pager Pager
}

// Pager is where a page is among all.
type Pager struct {
	Page, Pages int
	First, Last int // rows, from 1; 0 if there are none
	Total       int // of the rows that the filters leave
}

// Choose filters, sorts and cuts rows as a query asks. compare has an entry for
// each sortable column; rows that it holds equal keep their order. A page after
// the last is the last. rows are left as they are.
func Choose[T any](rows []T, q Query, keep func(T) bool, compare map[string]func(a, b T) int) View[T] {
	kept := make([]T, 0, len(rows))
	for _, r := range rows {
		if keep(r) {
			kept = append(kept, r)
		}
	}
	if c := compare[q.Sort]; c != nil {
		slices.SortStableFunc(kept, func(a, b T) int {
			if q.Desc {
				return c(b, a)
			}
			return c(a, b)
		})
	}
	pages := max(1, (len(kept)+PageSize-1)/PageSize)
	page := min(max(q.Page, 1), pages)
	from := (page - 1) * PageSize
	to := min(len(kept), from+PageSize)
	return View[T]{Rows: kept[from:to], Pager: Pager{
		Page: page, Pages: pages, First: min(from+1, to), Last: to, Total: len(kept),
	}}
}

// By compares rows by what f takes of them.
func By[T any, K cmp.Ordered](f func(T) K) func(a, b T) int {
	return func(a, b T) int { return cmp.Compare(f(a), f(b)) }
}

// Contains reports whether a text filter leaves a value: in any case of letters,
// an empty one leaves all.
func Contains(value, filter string) bool {
	return filter == "" || strings.Contains(strings.ToLower(value), strings.ToLower(filter))
}

// Sum adds counts that strangers state: what overflows stays the greatest.
func Sum(a, b uint64) uint64 {
	if a+b < a {
		return math.MaxUint64
	}
	return a + b
}
