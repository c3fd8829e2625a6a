package conn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// CheckURL says what is wrong with an Options.URL, without connecting.
func CheckURL(url string) error {
	_, err := parseAddress(url)
	return err
}

// address is what a URL says.
type address struct {
	tls                bool
	username, password string
	hosts              []string // host:port each
	database           int
	cluster            bool
	sentinel           string // name of the master; "" is without Sentinel
}

// parseAddress reads
//
//	redis[s]://[[user]:password@]host[:port][,host[:port]]...[/database][?cluster=true | ?sentinel=NAME]
//
// Errors name the part that is wrong, and never show a password. Package url cannot
// be asked: it knows one host only.
func parseAddress(raw string) (*address, error) {
	a := &address{}
	scheme, rest, ok := strings.Cut(raw, "://")
	switch {
	case ok && scheme == "redis":
	case ok && scheme == "rediss":
		a.tls = true
	default:
		return nil, errors.New("the URL must begin with redis:// or rediss://")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if strings.Contains(rest, "@") || strings.Contains(rest, "%40") {
		// What stands before it may be part of a password: nothing of it is shown.
		return nil, errors.New("an @ behind the host: in user and password, / ? # @ and % are written as %2F %3F %23 %40 and %25")
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := a.setUser(authority[:at]); err != nil {
			return nil, err
		}
		authority = authority[at+1:]
	}
	path, query, _ := strings.Cut(rest, "?")
	if err := a.setQuery(query); err != nil {
		return nil, err
	}
	if err := a.setHosts(authority); err != nil {
		return nil, err
	}
	if err := a.setDatabase(path); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *address) setUser(info string) error {
	username, password, ok := strings.Cut(info, ":")
	if !ok {
		return errors.New("a user without a password: it is user:password@host, or :password@host")
	}
	var err1, err2 error
	a.username, err1 = url.PathUnescape(username)
	a.password, err2 = url.PathUnescape(password)
	if err1 != nil || err2 != nil || strings.Contains(info, "@") {
		return errors.New("user and password are not well escaped: / ? # @ and % are written as %2F %3F %23 %40 and %25")
	}
	return nil
}

func (a *address) setHosts(list string) error {
	port := "6379"
	if a.sentinel != "" {
		port = "26379"
	}
	for host := range strings.SplitSeq(list, ",") {
		full, err := withPort(host, port)
		if err != nil {
			return err
		}
		a.hosts = append(a.hosts, full)
	}
	if len(a.hosts) > 1 && !a.cluster && a.sentinel == "" {
		return errors.New("several hosts need ?cluster=true or ?sentinel=NAME")
	}
	return nil
}

// withPort returns host:port for what is given with a port or without.
func withPort(given, port string) (string, error) {
	host := given
	if h, p, err := net.SplitHostPort(given); err == nil {
		host, port = h, p
	} else if inner, ok := strings.CutPrefix(given, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	} else if strings.Contains(given, ":") {
		return "", fmt.Errorf("%q is not host:port; an IPv6 address stands in brackets", given)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no port from 1 to 65535", given)
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n[]%\\") {
		return "", fmt.Errorf("%q names no host", given)
	}
	return net.JoinHostPort(host, port), nil
}

func (a *address) setDatabase(path string) error {
	number := strings.TrimPrefix(path, "/")
	if number == "" {
		return nil
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return fmt.Errorf("behind the host stands the number of a database, not %q", number)
	}
	if a.cluster && n != 0 {
		return errors.New("a cluster has database 0 only")
	}
	a.database = int(n)
	return nil
}

func (a *address) setQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil || strings.Contains(query, "#") {
		return errors.New("behind the ? stands cluster=true or sentinel=NAME")
	}
	for name, v := range values {
		switch {
		case name == "cluster" && len(v) == 1 && (v[0] == "true" || v[0] == "false"):
			a.cluster = v[0] == "true"
		case name == "sentinel" && len(v) == 1 && v[0] != "":
			a.sentinel = v[0]
		default:
			return fmt.Errorf("%s=%s: behind the ? stands cluster=true or sentinel=NAME", name, strings.Join(v, ","))
		}
	}
	if a.cluster && a.sentinel != "" {
		return errors.New("cluster and sentinel exclude each other")
	}
	return nil
}
