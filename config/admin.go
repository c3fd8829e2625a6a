package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// scopes are what a token may be good for, in the order of the manual.
var scopes = []string{"purge", "read", "debug", "all"}

// shortestSecret keeps secrets from being guessed: 16 random letters are.
const (
	shortestSecret = 16
	longestSecret  = 1024
)

// admin reads admin { }.
func (d *decoder) admin(b *hcl.Block) {
	a := &d.config.Admin
	d.body(b.Body, lines{
		"listen": set(d, &a.Listen, d.checked("Invalid address", checkAdminAddress)),
		"hosts":  set(d, &a.Hosts, d.list(d.checked("Invalid host", checkAdminHost))),
	}, blocks{
		"token": {named: true, read: d.token},
	})
}

// tokenBlock is a token as read.
type tokenBlock struct {
	token  Token
	secret *hcl.Range // where it stands; nil when it is missing
	sites  []textAt
}

// token reads token "name" { }.
func (d *decoder) token(b *hcl.Block) {
	block := &tokenBlock{token: Token{Name: b.Labels[0]}}
	d.tokens = append(d.tokens, block)
	d.body(b.Body, lines{
		"secret": func(e hclsyntax.Expression) {
			block.secret = e.Range().Ptr()
			block.token.Secret, _ = d.constantText(e)
		},
		"scopes": func(e hclsyntax.Expression) {
			var ok bool
			if block.token.Scopes, ok = d.list(d.oneOf("scope", scopes...))(e); ok && block.token.Scopes == nil {
				d.fault(e.Range().Ptr(), "Empty list", "A token without a scope is good for nothing. The scopes are %s.", quoted(scopes))
			}
		},
		"sites": func(e hclsyntax.Expression) {
			var ok bool
			if block.sites, ok = d.listOf(e, d.constantText); ok && block.sites == nil {
				d.fault(e.Range().Ptr(), "Empty list", "Leave the line out for a token that may purge every site.")
			}
		},
	}, nil)
	d.required(b, "secret", "scopes")
}

// resolveTokens checks tokens against one another and against the sites.
func (d *decoder) resolveTokens() {
	var sites []string
	for _, site := range d.sites {
		sites = append(sites, site.name)
	}
	owners := make(map[string]string)
	for _, block := range d.tokens {
		token := &block.token
		for _, site := range block.sites {
			token.Sites = append(token.Sites, site.text)
			if !slices.Contains(sites, site.text) && !d.incomplete {
				d.fault(&site.at, "Unknown site", "There is no site named %q.%s", site.text, didYouMean(site.text, sites))
			}
		}
		if problem := secretProblem(token.Secret); problem != "" && !d.incomplete {
			d.fault(block.secret, "Invalid secret", "The secret of the token %q %s", token.Name, problem)
		} else if other, ok := owners[token.Secret]; ok && !d.incomplete {
			d.fault(block.secret, "Duplicate secret", "The tokens %q and %q have the same secret.", other, token.Name)
		}
		owners[token.Secret] = token.Name
		d.config.Admin.Tokens = append(d.config.Admin.Tokens, *token)
	}
}

// secretProblem says what is wrong with a secret, without showing it, or "".
func secretProblem(secret string) string {
	if len(secret) < shortestSecret || len(secret) > longestSecret {
		return fmt.Sprintf("must have %d to %d bytes, and has %d. Make one with \"openssl rand -hex 32\".", shortestSecret, longestSecret, len(secret))
	}
	for _, c := range []byte(secret) {
		if c <= ' ' || c >= 0x7f {
			return "must be plain ASCII without spaces and line ends: it is sent in a header."
		}
	}
	return ""
}

// checkAdminHost checks a name by which the admin listener is reached.
func checkAdminHost(text string) (normal, problem string) {
	if address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return address.String(), ""
	}
	normal = strings.ToLower(text)
	if !isHostname(normal) {
		return "", fmt.Sprintf("%q is neither a name nor an address. It stands here without scheme and port.", text)
	}
	return normal, ""
}
