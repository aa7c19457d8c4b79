// Package session knows who looks at the console. A browser holds a random
// token in a cookie that scripts cannot read; everything else is in this
// process's memory and ends with it. A session is good on the host and port that
// it was made on.
//
// There are three kinds of viewer. The owner came by a one-time link that only
// this machine's user was shown, or signed with the wallet that pays here, and
// sees everything. A key came with an API key and sees what that key did. A
// wallet signed a message with its own key and sees that account.
package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/torg-network/torg/square"
)

// Role is a kind of viewer.
type Role string

const (
	Owner  Role = "owner"
	Key    Role = "key"
	Wallet Role = "wallet"
)

// Viewer is who looks.
type Viewer struct {
	Role    Role
	Key     string         // the API key's ID: role Key
	Address square.Address // the account on the ledger: roles Owner and Wallet
	Name    string         // for people
	secret  string         // the API key itself: pays for questions
}

// NewKey is the viewer that an API key lets in.
func NewKey(id, name, secret string) Viewer {
	return Viewer{Role: Key, Key: id, Name: name, secret: secret}
}

// NewOwner is this machine's owner; secret is the API key that pays for what it
// asks.
func NewOwner(a square.Address, secret string) Viewer {
	return Viewer{Role: Owner, Address: a, Name: "owner", secret: secret}
}

// IsOwner reports whether the viewer is this machine's owner.
func (v Viewer) IsOwner() bool { return v.Role == Owner }

// Asked reports whether what was asked for an account, an API key's id, is the
// viewer's to see: the owner's is everything, a key's its own.
func (v Viewer) Asked(account string) bool {
	return v.IsOwner() || v.Role == Key && v.Key != "" && v.Key == account
}

// Secret is the API key that pays for what the viewer asks; empty if it has
// none. It must not be written anywhere.
func (v Viewer) Secret() string { return v.secret }

// Session is one browser's stay.
type Session struct {
	Viewer Viewer
	CSRF   string // a form's proof that it is from a page of ours

	made, seen time.Time
	at         string // the host and port that it was made on
	mu         sync.Mutex
	notice     string
	once       [][32]byte // see Once
}

// Notify leaves words for the next page.
func (s *Session) Notify(words string) {
	s.mu.Lock()
	s.notice = words
	s.mu.Unlock()
}

// Notice takes the words that were left.
func (s *Session) Notice() (words string) {
	s.mu.Lock()
	words, s.notice = s.notice, ""
	s.mu.Unlock()
	return words
}

// ValidCSRF reports whether a form's token is this session's.
func (s *Session) ValidCSRF(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.CSRF)) == 1
}

// Bounds.
const (
	maxSessions = 1024
	maxLinks    = 32
	idle        = 12 * time.Hour
	lifetime    = 7 * 24 * time.Hour
	linkLife    = 15 * time.Minute
)

// cookieName names a cookie after the host and port that it is for: browsers send
// the cookies of a host to all its ports, and other squares may be on those. None
// of them takes this one for its own, or overwrites it.
func cookieName(r *http.Request) string {
	at := sha256.Sum256([]byte(strings.ToLower(r.Host)))
	return "torg_console_" + hex.EncodeToString(at[:6])
}

// Store holds the sessions and the links that open one. It is safe for
// concurrent use.
type Store struct {
	now func() time.Time

	mu       sync.Mutex
	sessions map[[32]byte]*Session
	links    map[[32]byte]time.Time // until when
	asked    map[string]challenge
}

// NewStore is an empty store; a nil now is time.Now.
func NewStore(now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{now: now, sessions: map[[32]byte]*Session{}, links: map[[32]byte]time.Time{}, asked: map[string]challenge{}}
}

// Token is 32 random bytes for a cookie, a link or a form.
func Token() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hash is what is kept of a token, so that memory does not open sessions.
func hash(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// Link makes a token that opens the owner's session once, within a quarter of
// an hour.
func (s *Store) Link() string {
	t := Token()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for k, until := range s.links {
		if now.After(until) || len(s.links) >= maxLinks {
			delete(s.links, k)
		}
	}
	s.links[hash(t)] = now.Add(linkLife)
	return t
}

// ErrLink says that a link opens nothing.
var ErrLink = errors.New("this link was used already or is older than a quarter of an hour")

// UseLink takes a link's token; it is good for one use.
func (s *Store) UseLink(t string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.links[hash(t)]
	delete(s.links, hash(t))
	if !ok || s.now().After(until) {
		return ErrLink
	}
	return nil
}

// Begin opens a session and sets its cookie. The session that the browser had
// before ends, so that a token planted in it opens nothing.
func (s *Store) Begin(w http.ResponseWriter, r *http.Request, v Viewer) *Session {
	s.End(w, r)
	t, now := Token(), s.now()
	sess := &Session{Viewer: v, CSRF: Token(), made: now, seen: now, at: r.Host}
	s.mu.Lock()
	for len(s.sessions) >= maxSessions {
		var oldest [32]byte
		var when time.Time
		for k, o := range s.sessions {
			if when.IsZero() || o.seen.Before(when) {
				oldest, when = k, o.seen
			}
		}
		delete(s.sessions, oldest)
	}
	s.sessions[hash(t)] = sess
	s.mu.Unlock()
	setCookie(w, r, t, int(lifetime/time.Second))
	return sess
}

func setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
}

// Of is the session of a request, nil if it has none.
func (s *Store) Of(r *http.Request) *Session {
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := hash(c.Value)
	sess, now := s.sessions[k], s.now()
	if sess == nil || !strings.EqualFold(sess.at, r.Host) {
		return nil
	}
	if now.Sub(sess.seen) > idle || now.Sub(sess.made) > lifetime {
		delete(s.sessions, k)
		return nil
	}
	sess.seen = now
	return sess
}

// End closes the session of a request.
func (s *Store) End(w http.ResponseWriter, r *http.Request) {
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return
	}
	s.mu.Lock()
	delete(s.sessions, hash(c.Value))
	s.mu.Unlock()
	setCookie(w, r, "", -1)
}

// EndKey closes all sessions of an API key, which was revoked.
func (s *Store) EndKey(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, sess := range s.sessions {
		if sess.Viewer.Role == Key && sess.Viewer.Key == id {
			delete(s.sessions, k)
		}
	}
}
