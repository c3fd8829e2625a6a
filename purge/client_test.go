package purge

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestClient(t *testing.T) {
	completed := incomplete
	completed.Complete, completed.Note = true, "one node is fenced"
	recorder := &fakeRecorder{receipt: incomplete, follow: func(_ context.Context, id string) (Receipt, error) {
		if id != "1-1" {
			return Receipt{}, ErrUnknownPurge
		}
		return completed, nil
	}}
	_, url := newHandler(t, recorder, nil)
	client := Client{URL: url + "/"}
	got, err := client.Purge(t.Context(), Request{SurrogateKeys: []string{"red"}, Site: "shop", Soft: true, Wait: WaitCluster, Timeout: time.Second})
	if err != nil || !reflect.DeepEqual(got, completed) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, want := recorder.recorded(), "surrogate key site=shop authority= value=red soft"; got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
	if got, err = client.Purge(t.Context(), Request{All: true}); err != nil || !reflect.DeepEqual(got, incomplete) {
		t.Errorf("without waiting: %+v, %v", got, err)
	}
	if got, err = client.Receipt(t.Context(), "1-1"); err != nil || !reflect.DeepEqual(got, completed) {
		t.Errorf("its receipt: %+v, %v", got, err)
	}
	for _, id := range []string{"9-9", "../purge", "a b?c"} {
		if _, err := client.Receipt(t.Context(), id); !errors.Is(err, ErrUnknownPurge) {
			t.Errorf("receipt %q: %v", id, err)
		}
	}
}

func TestClientErrors(t *testing.T) {
	refused, url := &fakeRecorder{receipt: complete}, ""
	_, url = newHandler(t, refused, nil)
	_, err := (&Client{URL: url}).Purge(t.Context(), Request{URLs: []string{"http://shop.example/", "/b"}})
	if problem, ok := errors.AsType[*Error](err); !ok || problem.Status != 400 || problem.Field != "urls[1]" || errors.Is(err, ErrNotRecorded) {
		t.Errorf("a bad field: %v", err)
	}
	_, err = (&Client{URL: url}).Purge(t.Context(), Request{})
	if problem, ok := errors.AsType[*Error](err); !ok || problem.Status != 400 {
		t.Errorf("nothing selected: %v", err)
	}
	_, url = newHandler(t, &fakeRecorder{err: ErrNotRecorded}, nil)
	if _, err := (&Client{URL: url}).Purge(t.Context(), Request{All: true}); !errors.Is(err, ErrNotRecorded) {
		t.Errorf("not recorded: %v", err)
	}
}

// TestClientTrustsNobodyElse: answers that no node gives are errors, and the token
// goes to the node alone.
func TestClientTrustsNobodyElse(t *testing.T) {
	var reached, token string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached = r.URL.Path }))
	defer other.Close()
	for name, serve := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>" + strings.Repeat("x", 10_000))) },
		"empty JSON": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", asJSON)
			w.Write([]byte("{}"))
		},
		"a bad gateway": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) },
		"JSON of another status": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", asJSON)
			w.WriteHeader(201)
			w.Write([]byte(`{"id":"1-1","complete":true}`))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		},
		"an endless answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", asJSON)
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token = r.Header.Get("Authorization")
			serve(w, r)
		}))
		receipt, err := (&Client{URL: server.URL, Token: "s3cret"}).Purge(t.Context(), Request{All: true})
		if err == nil || errors.Is(err, ErrNotRecorded) || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 300 {
			t.Errorf("%s: %+v, %v", name, receipt, err)
		}
		if token != "Bearer s3cret" {
			t.Errorf("%s: authorised by %q", name, token)
		}
		server.Close()
	}
	if reached != "" {
		t.Errorf("followed a redirect to %s", reached)
	}
	if _, err := (&Client{URL: "http://127.0.0.1:1"}).Purge(t.Context(), Request{All: true}); err == nil {
		t.Error("nobody is there, and no error")
	}
	if _, err := (&Client{URL: "::"}).Receipt(t.Context(), "x"); err == nil {
		t.Error("an address that is none, and no error")
	}
}
