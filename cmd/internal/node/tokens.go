package node

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"edge/config"
	"edge/proxy"
	"edge/purge"
)

// Scopes of tokens, as the configuration names them.
const (
	scopePurge = "purge"
	scopeRead  = "read"
	scopeDebug = "debug"
	scopeAll   = "all" // each of the others
)

// token is a bearer token of the admin listener. Its secret is kept as a digest:
// digests are of one length, and nothing that prints a node shows a secret.
type token struct {
	name   string
	digest [sha256.Size]byte
	scopes []string
	sites  []string // that it may purge; nil is every one
}

func (t *token) hasOneOf(scopes []string) bool {
	return slices.ContainsFunc(t.scopes, func(has string) bool {
		return has == scopeAll || slices.Contains(scopes, has)
	})
}

// tokens are those of a node. None means that whoever reaches the listener may do
// everything; the guard lets only this machine reach it then.
type tokens []token

func newTokens(list []config.Token) tokens {
	var ts tokens
	for _, t := range list {
		ts = append(ts, token{t.Name, sha256.Sum256([]byte(t.Secret)), t.Scopes, t.Sites})
	}
	return ts
}

// find returns the token with this secret, or nil. How long it takes tells nothing
// of the secrets: it compares digests, each to its end, and all of them.
func (ts tokens) find(secret string) *token {
	digest := sha256.Sum256([]byte(secret))
	var found *token
	for i := range ts {
		if subtle.ConstantTimeCompare(digest[:], ts[i].digest[:]) == 1 {
			found = &ts[i]
		}
	}
	return found
}

// denial is why a caller may not have what it asks for.
type denial struct {
	status    int
	challenge string // for WWW-Authenticate (RFC 6750 section 3)
	title     string
}

// check returns the token of a caller that has one of the scopes, or why it may not
// pass.
func (ts tokens) check(header http.Header, scopes []string) (*token, *denial) {
	values := header["Authorization"]
	if values == nil {
		return nil, &denial{http.StatusUnauthorized, `Bearer realm="edge"`, "A token is needed: Authorization: Bearer SECRET."}
	}
	kind, secret, _ := strings.Cut(values[0], " ")
	t := ts.find(strings.Trim(secret, " "))
	switch {
	case len(values) > 1 || !strings.EqualFold(kind, "Bearer") || t == nil:
		return nil, &denial{http.StatusUnauthorized, `Bearer realm="edge", error="invalid_token"`, "There is no such token."}
	case !t.hasOneOf(scopes):
		challenge := fmt.Sprintf(`Bearer realm="edge", error="insufficient_scope", scope=%q`, scopes[0])
		return t, &denial{http.StatusForbidden, challenge, fmt.Sprintf("The token does not have the scope %q.", scopes[0])}
	}
	return t, nil
}

// tokenKey is where a request's context has the *token of its caller.
type tokenKey struct{}

// demand lets those pass who have a token with one of the scopes; everybody, when
// the node has no tokens.
func (n *Node) demand(next http.Handler, scopes ...string) http.Handler {
	if len(n.tokens) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, denied := n.tokens.check(r.Header, scopes)
		if by, ok := r.Context().Value(callerKey{}).(*caller); ok && t != nil {
			by.token = t.name
		}
		if denied != nil {
			w.Header().Set("WWW-Authenticate", denied.challenge)
			proxy.Problem(w, denied.status, denied.title)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, t)))
	})
}

// grant tells the purge interface what a caller may do, once demand has let it in.
func grant(r *http.Request) purge.Grant {
	t, ok := r.Context().Value(tokenKey{}).(*token)
	if !ok {
		return purge.Grant{} // the node has no tokens
	}
	return purge.Grant{Name: t.name, Sites: t.sites}
}
