package judge

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/torg-network/torg/host"
	"github.com/torg-network/torg/square"
)

// Stage is how far a seat is.
type Stage string

const (
	Working   Stage = "working"   // the verdict is being found
	Unable    Stage = "unable"    // it cannot be, and nothing will be voted
	Decided   Stage = "decided"   // the verdict and the secret are on disk
	Committed Stage = "committed" // the ledger has the ballot
	Voted     Stage = "voted"     // the ledger has the vote
)

// Seat is a judge's part in one draw of judges, and what became of it. Times are
// seconds on the ledger's clock of deadlines, money in base units.
type Seat struct {
	Lease    square.Hash    `json:"lease"`
	Trade    string         `json:"trade"`
	Draw     uint64         `json:"draw"`
	Evidence square.Hash    `json:"evidence"`
	Places   int            `json:"places"`      // of the draw
	Bond     uint64         `json:"bond,string"` // what silence costs, in all of them
	Seated   int64          `json:"seated"`
	Votes    int64          `json:"votes,omitempty"` // from when votes are shown
	Until    int64          `json:"until,omitempty"`
	Stage    Stage          `json:"stage"`
	Verdict  square.Verdict `json:"verdict,omitempty"`
	Why      string         `json:"why,omitempty"` // nothing could be told, or the bytes not be had
	Ended    bool           `json:"ended,omitempty"`
	Outcome  string         `json:"outcome,omitempty"` // the reason that the lease ended with, or upheld, given_up, redrawn
	Earned   uint64         `json:"earned,string"`
	Lost     uint64         `json:"lost,string"`
}

// key names a seat. A lease hears the same evidence once, so that the three are
// never the same for two.
type key struct {
	lease, evidence square.Hash
	draw            uint64
}

func (s Seat) key() key { return key{s.Lease, s.Evidence, s.Draw} }

func (k key) file() string { return fmt.Sprintf("%s-%s-%d.json", k.lease, k.evidence, k.draw) }

// kept is a seat as it is on disk: with the secret, which nobody else may see
// before the vote.
type kept struct {
	Seat
	Secret square.Hash `json:"secret"`
}

// maxEnded bounds the seats that are remembered after their end.
const maxEnded = 1000

// maxFile bounds what is read of one file.
const maxFile = 64 << 10

// book is the seats of a judge, a file each in one folder.
type book struct {
	dir  string
	most int // seats that are over
	mu   sync.Mutex
	all  map[key]kept
}

func openBook(dir string, most int) (*book, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of votes: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the folder of votes: %w", err)
	}
	b := &book{dir: dir, most: most, all: map[key]kept{}}
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), ".json") {
			continue // one that was not written to its end
		}
		k, err := readKept(filepath.Join(dir, n.Name()))
		if err != nil {
			return nil, err
		}
		if k.Stage == Unable && !k.Ended {
			k.Stage = Working // this machine may be able to now
		}
		b.all[k.key()] = k
	}
	return b, nil
}

func readKept(path string) (k kept, err error) {
	st, err := os.Stat(path)
	if err == nil && st.Size() > maxFile {
		err = fmt.Errorf("%d bytes, at most %d", st.Size(), maxFile)
	}
	var raw []byte
	if err == nil {
		raw, err = os.ReadFile(path)
	}
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err == nil && k.key().file() != filepath.Base(path) {
		err = errors.New("it is not of the seat that its name says")
	}
	if err != nil {
		return k, fmt.Errorf("vote %s: %w; move it away to judge without it", path, err)
	}
	return k, nil
}

// take is the seat as it is on disk, where it is put if it is not there yet.
func (b *book) take(s Seat) (kept, error) {
	b.mu.Lock()
	k, ok := b.all[s.key()]
	b.mu.Unlock()
	if ok {
		return k, nil
	}
	k = kept{Seat: s}
	return k, b.put(k)
}

// put has a seat on disk when it returns: the file and its name.
func (b *book) put(k kept) error {
	raw, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("keep a vote: %w", err)
	}
	path := filepath.Join(b.dir, k.key().file())
	if err := writeSynced(path, raw); err != nil {
		return fmt.Errorf("keep a vote: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all[k.key()] = k
	if k.Ended {
		return b.forget()
	}
	return nil
}

func writeSynced(path string, raw []byte) (err error) {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return host.SyncFolder(filepath.Dir(path))
}

// forget drops the oldest of the seats that are over, if there are too many.
func (b *book) forget() error {
	ended := b.list(func(s Seat) bool { return s.Ended })
	for _, s := range ended[min(len(ended), b.most):] {
		if err := os.Remove(filepath.Join(b.dir, s.key().file())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget an old vote: %w", err)
		}
		delete(b.all, s.key())
	}
	return nil
}

// list are seats, the newest first.
func (b *book) list(keep func(Seat) bool) []Seat {
	out := []Seat{}
	for _, k := range b.all {
		if keep(k.Seat) {
			out = append(out, k.Seat)
		}
	}
	slices.SortFunc(out, func(x, y Seat) int {
		return cmp.Or(cmp.Compare(y.Seated, x.Seated), strings.Compare(x.key().file(), y.key().file()))
	})
	return out
}

func (b *book) open() []Seat {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.list(func(s Seat) bool { return !s.Ended })
}

func (b *book) over(k key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all[k].Ended
}

// Report is what a judge did. Its sums are over the seats that it remembers, the
// last thousand.
type Report struct {
	Seats  []Seat `json:"seats"` // now
	Past   []Seat `json:"past"`  // the newest first, twenty at most
	Sat    int    `json:"sat"`   // seats that are over
	Earned uint64 `json:"earned,string"`
	Lost   uint64 `json:"lost,string"`
}

// Report tells what the judge does and did.
func (j *Judge) Report() Report {
	const most = 20
	j.book.mu.Lock()
	defer j.book.mu.Unlock()
	past := j.book.list(func(s Seat) bool { return s.Ended })
	r := Report{Seats: j.book.list(func(s Seat) bool { return !s.Ended }), Past: past[:min(len(past), most)], Sat: len(past)}
	for _, s := range past {
		r.Earned += s.Earned
		r.Lost += s.Lost
	}
	return r
}
