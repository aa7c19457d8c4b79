package list

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/torg-network/torg/console/ui"
)

var spec = Spec{
	Path: "/things", Title: "Things", Sort: "time", Desc: true,
	Columns: []Column{{Name: "time", Title: "When"}, {Name: "price", Title: "Price", Number: true}, {Title: "Note"}},
	Filters: []Filter{{Name: "state", Title: "State", Options: []Option{{"", "All"}, {"good", "Good"}}}, {Name: "model", Title: "Model"}},
}

// An address leads to a query that makes the same address.
func TestAddresses(t *testing.T) {
	for _, address := range []string{
		"/things", "/things?page=3", "/things?dir=asc&sort=time", "/things?dir=desc&page=2&sort=price&state=good",
		"/things?model=a%26b%3D%3Cc%3E",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		q, err := spec.Parse(u.Query())
		if err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if got := spec.URL(q); got != address {
			t.Errorf("%s became %s", address, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, query := range []string{
		"sort=nothing", "sort=Note", "dir=up", "page=0", "page=-1", "page=x", "page=99999999999999999999", "page=401", "state=bad",
		"model=" + string(make([]byte, 101)),
	} {
		v, _ := url.ParseQuery(query)
		_, err := spec.Parse(v)
		var f *ui.Failure
		if !errors.As(err, &f) || f.Status != http.StatusBadRequest {
			t.Errorf("%q: %v", query, err)
		}
	}
}

func TestChoose(t *testing.T) {
	var rows []int
	for i := range 10_000 {
		rows = append(rows, (i*7919)%10_000)
	}
	before := slices.Clone(rows)
	compare := map[string]func(a, b int) int{"time": By(func(n int) int { return n })}
	even := func(n int) bool { return n%2 == 0 }
	v := Choose(rows, Query{Sort: "time", Desc: true, Page: 2}, even, compare)
	if len(v.Rows) != PageSize || v.Rows[0] != 9998-2*PageSize || v.Pager != (Pager{2, 100, 51, 100, 5000}) {
		t.Errorf("%+v", v)
	}
	if v := Choose(rows, Query{Sort: "time", Page: 400}, even, compare); v.Pager.Page != 100 || v.Rows[PageSize-1] != 9998 {
		t.Errorf("after the last page: %+v", v.Pager)
	}
	if v := Choose(rows, Query{Page: 1}, func(int) bool { return false }, compare); v.Pager != (Pager{1, 1, 0, 0, 0}) || len(v.Rows) != 0 {
		t.Errorf("nothing: %+v", v)
	}
	if !slices.Equal(rows, before) {
		t.Error("the rows were changed")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "sort=price&dir=desc&page=7&state=good", "page=1e9", "model=%ff%00", "sort=time&sort=price"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		v, _ := url.ParseQuery(query)
		q, err := spec.Parse(v)
		if err != nil {
			return
		}
		u, err := url.Parse(spec.URL(q))
		if err != nil {
			t.Fatal(err)
		}
		again, err := spec.Parse(u.Query())
		if err != nil || again.Sort != q.Sort || again.Desc != q.Desc || again.Page != q.Page || len(again.Filters) != len(q.Filters) {
			t.Fatalf("%q: %+v became %+v, %v", query, q, again, err)
		}
		Choose([]int{1, 2, 3}, q, func(int) bool { return true }, nil)
	})
}
