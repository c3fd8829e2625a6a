package config

import (
	"fmt"
	"slices"
)

// commandLine fills the Config of a node that was started without a file. Findings
// have no place, and name the flag.
func (d *decoder) commandLine(origin, listen, admin, policy string) {
	argument := func(flag, text string, target *string, check func(string) (string, string)) {
		if text == "" {
			return // the default
		}
		normal, problem := check(text)
		if problem != "" {
			d.fault(nil, "Invalid value of "+flag, "%s", problem)
			return
		}
		*target = normal
	}
	if origin == "" {
		d.fault(nil, "Invalid value of --origin", "The address of the origin is missing, such as \"http://127.0.0.1:3000\".")
	}
	block := &originBlock{origin: d.origin}
	block.origin.Name = catchAll
	argument("--origin", origin, &block.origin.URL, checkOriginURL)
	argument("--listen", listen, &d.config.Listen[0], checkAddress)
	argument("--admin", admin, &d.config.Admin.Listen, checkAdminAddress)
	d.policy = new(defaultPolicy)
	argument("--policy", policy, d.policy, checkPolicy)
	if d.failed() {
		return
	}
	d.checkListeners()
	d.checkMemory()
	d.origins = []*originBlock{block}
	d.sites = []*siteBlock{{name: catchAll, hosts: []textAt{{text: "*"}}}}
	d.resolve()
}

func checkPolicy(name string) (normal, problem string) {
	if !slices.Contains(policyNames, name) {
		return "", fmt.Sprintf("There is no policy named %q. It is one of %s.", name, quoted(policyNames))
	}
	return name, ""
}
