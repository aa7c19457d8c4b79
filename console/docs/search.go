package docs

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// index finds sections by the words in them: an inverted index, ranked by how
// rare a word is and how often a section says it (tf-idf), headings counting
// more.
type index struct {
	vocabulary []string // sorted
	postings   map[string][]posting
	sections   []*section
}

type posting struct {
	section int
	weight  float64
}

// hit is a section that has all words of a query.
type hit struct {
	section *section
	score   float64
	snippet []fragment
}

// fragment is a piece of text, marked where it is what was looked for.
type fragment struct {
	text string
	mark bool
}

// What a word counts in a heading, and a whole word against the beginning of one.
const (
	inTitle = 8
	whole   = 3
)

func newIndex(documents []*document) index {
	x := index{postings: map[string][]posting{}}
	for _, d := range documents {
		for _, s := range d.sections {
			at := len(x.sections)
			x.sections = append(x.sections, s)
			counts := map[string]float64{}
			for w := range tokens(s.text) {
				counts[w]++
			}
			for w := range tokens(s.title) {
				counts[w] += inTitle
			}
			for w, n := range counts {
				x.postings[w] = append(x.postings[w], posting{at, 1 + math.Log(n)})
			}
		}
	}
	for w := range x.postings {
		x.vocabulary = append(x.vocabulary, w)
	}
	slices.Sort(x.vocabulary)
	return x
}

// tokens are the words of a text in lower case.
func tokens(s string) func(func(string) bool) {
	return strings.FieldsFuncSeq(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// find returns the sections in which every word of the query, or one that
// begins so, occurs; the best first.
func (x index) find(query string) []hit {
	var asked []string
	for w := range tokens(query) {
		if !slices.Contains(asked, w) {
			asked = append(asked, w)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	var scores map[int]float64
	for _, w := range asked {
		found := map[int]float64{}
		from, _ := slices.BinarySearch(x.vocabulary, w)
		for _, v := range x.vocabulary[from:] {
			if !strings.HasPrefix(v, w) {
				break
			}
			rare := math.Log1p(float64(len(x.sections)) / float64(len(x.postings[v])))
			if v == w {
				rare *= whole
			}
			for _, p := range x.postings[v] {
				found[p.section] = max(found[p.section], p.weight*rare)
			}
		}
		for s := range found {
			if scores != nil {
				if _, ok := scores[s]; !ok {
					delete(found, s)
				} else {
					found[s] += scores[s]
				}
			}
		}
		scores = found
	}
	var hits []hit
	for s, score := range scores {
		hits = append(hits, hit{section: x.sections[s], score: score})
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.section.path(), b.section.path()))
	})
	hits = hits[:min(len(hits), maxHits)]
	for i := range hits {
		hits[i].snippet = snippet(hits[i].section.text, asked)
	}
	return hits
}

// snippet is the text around the first word that was looked for, with all of
// them marked.
func snippet(text string, asked []string) []fragment {
	const before, after = 60, 180
	text = strings.Join(strings.Fields(text), " ")
	marks := matches(text, asked)
	from := 0
	if len(marks) > 0 {
		from = max(0, marks[0][0]-before)
	}
	to := min(len(text), from+before+after)
	for from > 0 && !utf8.RuneStart(text[from]) {
		from--
	}
	for to < len(text) && !utf8.RuneStart(text[to]) {
		to++
	}
	var out []fragment
	add := func(s string, mark bool) {
		if s != "" {
			out = append(out, fragment{s, mark})
		}
	}
	if from > 0 {
		add("… ", false)
	}
	at := from
	for _, m := range marks {
		if m[0] < at || m[1] > to {
			continue
		}
		add(text[at:m[0]], false)
		add(text[m[0]:m[1]], true)
		at = m[1]
	}
	add(text[at:to], false)
	if to < len(text) {
		add(" …", false)
	}
	return out
}

// matches are the places in a text where words begin as asked.
func matches(text string, asked []string) (out [][2]int) {
	start := -1
	word := func(end int) {
		if start < 0 {
			return
		}
		w := strings.ToLower(text[start:end])
		for _, a := range asked {
			if strings.HasPrefix(w, a) {
				out = append(out, [2]int{start, end})
				break
			}
		}
		start = -1
	}
	for i, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			if start < 0 {
				start = i
			}
		} else {
			word(i)
		}
	}
	word(len(text))
	return out
}

// opening is how a document begins, in a sentence or two.
func opening(d *document) string {
	for _, s := range d.sections {
		if t := strings.Join(strings.Fields(s.text), " "); t != "" {
			if at := strings.Index(t, ". "); at > 0 && at < 240 {
				return t[:at+1]
			}
			f := snippet(t, nil)
			return f[0].text
		}
	}
	return ""
}
