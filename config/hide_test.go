package config

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestSecretsAreNotShown: whatever is wrong with a line, and with which one, the
// secret in it is in no finding.
func TestSecretsAreNotShown(t *testing.T) {
	t.Setenv("EDGE_TEST_SHOWN", "0123456789abcdef")
	for _, source := range []string{
		"redis {\n url = \"redis://a\"\n pasword = \"hunter2\"\n}",
		"redis {\n url = \"redis://a\"\n password = hunter2\n}",
		"redis {\n url = \"redis://a\"\n password = 77777777\n}",
		"redis {\n url = \"redis://a\"\n password = true ? \"hunter2\" : 1\n}",
		"redis {\n url = \"redis://a\"\n password = <<E\nhunter2\nE\n username = [\"a\"]\n}",
		"redis {\n url = \"redis://a:hunter2@127.0.0.1\n}",
		"redis { url = \"redis://a:hunter2@127.0.0.1\" fence = \"1h\" }",
		"redis { url = \"redis://a:hunter2@127.0.0.1\", fence = \"1h\" }",
		"redis { url = \"redis://a\" }\nredis { url = \"redis://:hunter2@127.0.0.1\" }",
		"redsi { url = \"redis://:hunter2@127.0.0.1\" }",
		"redis \"x\" { url = \"redis://:hunter2@127.0.0.1\" }",
		"redis {\n url = \"redis://a:${lower(\"hunter2\")}@127.0.0.1/?x\"\n}",
		"redis {\n url = \"redis://user:a?hunter2@127.0.0.1\"\n}",
		"redis {\n url = \"redis://user:a/hunter2@127.0.0.1\"\n}",
		"redis {\n url = \"redis://user:1#hunter2@127.0.0.1\"\n}",
		"admin {\n token \"a\" {\n  secrte = \"hunter2\"\n }\n}",
		"admin {\n token \"a\" {\n  sercet = \"hunter2\"\n }\n}",
		"admin {\n token = \"hunter2\"\n}",
		"admin {\n token \"a\" {\n  secret = (\"hunter2\")\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = /* x */ \"hunter2\"\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = (\n\"hunter2\") \n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = \"${\"hunter2\"}\"\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = lower(\"hunter2\")\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = env(\"EDGE_TEST_SHOWN\") == \"hunter2\"\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = \"hunter2-hunter2-hunter2\"\n  secret = \"hunter2-hunter2-hunter3\"\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = \"hunter2\\q\"\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = \"hunter2\n  scopes = [\"all\"]\n }\n}",
		"admin {\n token \"a\" {\n  secret = hunter2\"\n  scopes = [\"all\"]\n }\n}",
		"admin { token \"deploy\" { secret = \"hunter2-hunter2-hunter2\" scopes = [\"all\"] } }",
		"site \"s\" {\n hosts = [\"s\"]\n request_headers {\n  set = { \"Authorization\" = \"Bearer hunter2${req.foo}\" }\n }\n}",
	} {
		_, err := Parse("edge.hcl", []byte(source+"\n"+smallest))
		refused := new(Error)
		if !errors.As(err, &refused) {
			t.Errorf("%s\nis not refused: %v", source, err)
			continue
		}
		var text bytes.Buffer
		refused.WriteTo(&text)
		if shown := text.String() + err.Error(); strings.Contains(shown, "hunter2") || strings.Contains(shown, "7777777") {
			t.Errorf("%s\nis shown as\n%s", source, shown)
		}
	}
}

// TestNothingElseIsHidden: what helps to find a mistake stays readable.
func TestNothingElseIsHidden(t *testing.T) {
	for source, want := range map[string]string{
		"admin {\n token \"a\" {\n  secret = env(\"EDGE_TEST_NOT_THERE\") # why\n  scopes = [\"all\"]\n }\n}": `secret = env("EDGE_TEST_NOT_THERE") # why`,
		"admin {\n token \"a\" {\n  secret = env(\"EDGE_TEST_NOT_THERE\")\n  scopes = [\"al\"]\n }\n}":        `scopes = ["al"]`,
		"redis {\n password = \"hunter2\"\n url = \"http://a\"\n}":                                            `url = "http://a"`,
		"redis {\n url = \"redis://a\"\n username = [\"me\"]\n}":                                              `username = ["me"]`,
	} {
		_, err := Parse("edge.hcl", []byte(source+"\n"+smallest))
		refused := new(Error)
		if !errors.As(err, &refused) {
			t.Errorf("%s\nis not refused: %v", source, err)
			continue
		}
		var text bytes.Buffer
		refused.WriteTo(&text)
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nis shown without %s:\n%s", source, want, text.String())
		}
	}
}
