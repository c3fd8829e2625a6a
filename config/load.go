package config

import (
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Load reads, checks and completes the configuration in a file. A file that is
// refused gives an *Error with every finding; other errors say why the file could
// not be read.
func Load(path string) (*Config, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer file.Close()
	// One byte more than allowed tells a file that is too large from one that just fits.
	src, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, src)
}

// Parse checks and completes the configuration in src. Name stands for the file in
// messages. A configuration that is refused gives an *Error with every finding.
func Parse(name string, src []byte) (*Config, error) {
	d := newDecoder(os.LookupEnv)
	d.name = name
	d.findings.file = &hcl.File{Bytes: src}
	if at, problem := tooLarge(name, src); problem != "" {
		d.fault(at, "Refused before parsing", "%s", problem)
		return d.result()
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	d.findings.file = file
	d.diags = append(d.diags, diags...)
	// A tree with syntax errors has holes that would be reported as missing or
	// mistyped a second time.
	if !d.failed() {
		d.file(file.Body)
	}
	return d.result()
}

// Default returns the configuration of a node that was started without a file: one
// site "default" for any authority, in front of one origin. Origin is the origin's
// address; the others may be empty, for their defaults. Arguments that are refused
// give an *Error.
func Default(origin, listen, admin, policy string) (*Config, error) {
	d := newDecoder(os.LookupEnv)
	d.commandLine(origin, listen, admin, policy)
	return d.result()
}

// result is the configuration as decoded, or what is wrong with it.
func (d *decoder) result() (*Config, error) {
	list, omitted := d.shown()
	if d.failed() {
		return nil, &Error{Diagnostics: list, Omitted: omitted}
	}
	d.config.Warnings = list
	return d.config, nil
}
