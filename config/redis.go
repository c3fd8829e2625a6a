package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// redis reads redis { }: with it the node is one of a fleet.
func (d *decoder) redis(b *hcl.Block) {
	r := defaultRedis()
	d.config.Redis = &r
	d.body(b.Body, lines{
		"url":        d.redisURL(&r.URL),
		"username":   set(d, &r.Username, d.constantText),
		"password":   set(d, &r.Password, d.constantText),
		"ca_file":    set(d, &r.CAFile, d.checked("Invalid file", checkFile)),
		"cert_file":  set(d, &r.CertFile, d.checked("Invalid file", checkFile)),
		"key_file":   set(d, &r.KeyFile, d.checked("Invalid file", checkFile)),
		"prefix":     set(d, &r.Prefix, d.checked("Invalid prefix", checkPrefix)),
		"patience":   set(d, &r.Patience, d.duration(shortest, 10*time.Second)),
		"timeout":    set(d, &r.Timeout, d.duration(shortest, 10*time.Second)),
		"fence":      set(d, &r.Fence, d.orOff(d.duration(3*time.Second, longest))),
		"max_object": set(d, &r.MaxObject, d.size(1*kib, 256*mib)),
		"queue":      set(d, &r.Queue, d.integer(1, 1_000_000)),
		"queue_size": set(d, &r.QueueSize, d.size(1*mib, 1<<50)),
	}, nil)
	d.required(b, "url")
	d.checkRedis(&r)
}

// checkRedis finds lines that contradict one another.
func (d *decoder) checkRedis(r *Redis) {
	if d.failed() {
		return
	}
	secure := strings.HasPrefix(r.URL, "rediss://")
	for _, file := range []*string{&r.CAFile, &r.CertFile, &r.KeyFile} {
		if *file != "" && !secure {
			d.fault(d.place(file), "Contradiction", "The connection has no TLS: write the URL with \"rediss://\".")
		}
	}
	if (r.CertFile == "") != (r.KeyFile == "") {
		d.fault(d.place(&r.CertFile), "Contradiction", "A certificate and its key go together: write both cert_file and key_file.")
	}
	if u, err := url.Parse(oneHost(r.URL)); err == nil && u.User != nil && (r.Username != "" || r.Password != "") {
		d.fault(d.place(&r.URL), "Contradiction", "The URL has a user or password of its own, beside the lines username and password.")
	}
	if at := d.place(&r.Patience); at == nil {
		r.Patience = min(r.Patience, r.Timeout)
	} else if r.Patience > r.Timeout {
		d.fault(at, "Contradiction", "Redis has %s to answer (timeout): to wait longer is in vain.", formatDuration(r.Timeout))
	}
	if r.MaxObject > r.QueueSize {
		d.fault(d.place(&r.MaxObject), "Contradiction", "The queue of entries to be written holds %s.", formatSize(r.QueueSize))
	}
}

// redisURL reads the address of Redis. What stands there may be secret, and is not
// repeated in findings.
func (d *decoder) redisURL(target *string) func(hclsyntax.Expression) {
	return func(e hclsyntax.Expression) {
		text, ok := d.constantText(e)
		if !ok {
			return
		}
		if problem := redisURLProblem(text); problem != "" {
			d.fault(e.Range().Ptr(), "Invalid URL", "%s", problem)
			return
		}
		*target = text
		d.places[target] = e.Range()
	}
}

// redisURLProblem says what is wrong with an address of Redis, or "". What only the
// client can tell, the node finds out before it starts.
func redisURLProblem(text string) string {
	const example = `Write "redis://127.0.0.1:6379", or "rediss://" for TLS.`
	if _, rest, _ := strings.Cut(text, "://"); strings.ContainsAny(rest, "/?#") && strings.Contains(rest[strings.IndexAny(rest, "/?#"):], "@") {
		// What stands before it may be part of a password: nothing of it is shown.
		return "There is an @ behind the host. In user and password, / ? # @ and % are written as %2F %3F %23 %40 and %25; or they stand in lines of their own."
	}
	u, err := url.Parse(oneHost(text))
	switch {
	case err != nil:
		return "This is not a URL. " + example
	case u.Scheme != "redis" && u.Scheme != "rediss":
		return "The scheme must be \"redis\" or \"rediss\". " + example
	case u.Host == "" || u.Opaque != "":
		return "The URL names no host. " + example
	case u.Fragment != "":
		return "The URL has a fragment, which means nothing here."
	}
	for name := range u.Query() {
		if name != "cluster" && name != "sentinel" {
			return fmt.Sprintf("The URL has a parameter %q. There are \"cluster\" (=true) and \"sentinel\" (= the name of the master).", name)
		}
	}
	return ""
}

// oneHost leaves only the first of several hosts in an address, which net/url can
// then read.
func oneHost(text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	user := authority[:strings.LastIndexByte(authority, '@')+1]
	host, _, _ := strings.Cut(authority[len(user):], ",")
	return scheme + "://" + user + host + rest[end:]
}

// checkFile checks the name of a file, which is read when the node starts.
func checkFile(name string) (normal, problem string) {
	if name == "" {
		return "", "The name of the file is empty."
	}
	return name, ""
}

// checkPrefix checks what all keys of the fleet begin with.
func checkPrefix(prefix string) (normal, problem string) {
	if prefix == "" || len(prefix) > 64 {
		return "", "A prefix has 1 to 64 characters."
	}
	if i := strings.IndexFunc(prefix, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '{' || c == '}' || c == '*' }); i >= 0 {
		return "", "A prefix is plain ASCII without spaces, braces and \"*\"."
	}
	return prefix, ""
}

// orOff reads "off" as zero, and all else as parse does.
func (d *decoder) orOff(parse parser[time.Duration]) parser[time.Duration] {
	return func(e hclsyntax.Expression) (time.Duration, bool) {
		if value, diags := e.Value(nil); !diags.HasErrors() && value.Type().FriendlyName() == "string" && !value.IsNull() && value.AsString() == "off" {
			return 0, true
		}
		return parse(e)
	}
}
