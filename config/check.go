package config

import "fmt"

// checkListeners finds addresses that cannot be listened on together.
func (d *decoder) checkListeners() {
	if d.incomplete {
		return
	}
	c := d.config
	at := d.place(&c.Listen)
	if len(c.Listen) == 0 {
		d.fault(at, "Empty list", "A node listens on at least one address.")
	}
	for i, address := range c.Listen {
		for _, other := range c.Listen[:i] {
			if sameListener(address, other) {
				d.fault(at, "Contradiction", "%q and %q are the same port of the same host.", other, address)
			}
		}
		if sameListener(address, c.Admin.Listen) {
			adminAt := d.place(&c.Admin.Listen)
			if adminAt == nil {
				adminAt = at
			}
			d.fault(adminAt, "Contradiction", "The admin listener (%q) and the public one (%q) are the same port of the same host.", c.Admin.Listen, address)
		}
	}
	for _, network := range c.Server.TrustedProxies {
		if network == "0.0.0.0/0" || network == "::/0" {
			d.warn(d.place(&c.Server.TrustedProxies), "Every client is trusted", "With %s in trusted_proxies anyone can claim any client address.", network)
		}
	}
	for _, network := range c.Server.ProxyProtocol {
		if network == "0.0.0.0/0" || network == "::/0" {
			d.warn(d.place(&c.Server.ProxyProtocol), "Every client is trusted", "With %s in proxy_protocol anyone can claim any client address.", network)
		}
	}
}

// checkHeads finds parts of a request head that would be larger than the whole, and
// lowers defaults that do not fit what the file says.
func (d *decoder) checkHeads() {
	if d.incomplete {
		return
	}
	s := &d.config.Server
	for _, part := range []struct {
		name string
		size *int64
	}{{"target", &s.MaxTargetBytes}, {"field", &s.MaxFieldBytes}} {
		if at := d.place(part.size); at == nil {
			*part.size = min(*part.size, s.MaxHeaderBytes)
		} else if *part.size > s.MaxHeaderBytes {
			d.fault(at, "Contradiction", "A %s cannot be larger than the head that it stands in, and max_header_bytes is %s.", part.name, formatSize(s.MaxHeaderBytes))
		}
	}
}

// checkMemory finds sizes of the memory tier and of fills that contradict one
// another, and lowers defaults that do not fit what the file says.
func (d *decoder) checkMemory() {
	if d.incomplete {
		return
	}
	m, f := &d.config.Memory, &d.config.Fill
	share := m.Size / memoryShare
	if at := d.place(&m.MaxObject); at == nil {
		m.MaxObject = min(m.MaxObject, share)
	} else if m.MaxObject > share {
		d.fault(at, "Contradiction", "One object may take at most a sixteenth of the memory tier: with a size of %s that is %s.%s",
			formatSize(m.Size), formatSize(share), fmt.Sprintf(" Or did you mean size = %q?", formatSize(m.MaxObject*memoryShare)))
	} else if m.MaxObject > f.Budget {
		d.fault(at, "Contradiction", "An object is held by its fill before it is stored, and the budget of fill { } is %s.", formatSize(f.Budget))
	}
	if at := d.place(&f.Window); at == nil {
		f.Window = min(f.Window, f.Budget)
	} else if f.Window > f.Budget {
		d.fault(at, "Contradiction", "A fill cannot hold more than the budget, %s.", formatSize(f.Budget))
	}
}
