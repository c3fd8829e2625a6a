package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Kind says what ended an exchange.
type Kind uint8

const (
	Refused    Kind = iota // no connection: nobody listens there, no route, no such name
	Reset                  // the connection ended before the response was whole
	Timeout                // a wait grew too long; Error.Phase says which
	TLS                    // the handshake failed, or the certificate is not the origin's
	Protocol               // what came is not HTTP, is over a limit, or answers another request
	Canceled               // the caller gave up
	ClientBody             // the request's body broke on the client's side: no fault of the origin

	kinds
)

// String returns the kind in lower case, as logs and counters name it.
func (k Kind) String() string {
	switch k {
	case Refused:
		return "refused"
	case Reset:
		return "reset"
	case Timeout:
		return "timeout"
	case TLS:
		return "tls"
	case Protocol:
		return "protocol"
	case Canceled:
		return "canceled"
	case ClientBody:
		return "client-body"
	default:
		panic(fmt.Sprintf("upstream: kind %d", uint8(k)))
	}
}

// Phase says what was waited for.
type Phase uint8

const (
	Connect      Phase = iota // a connection, new or free
	FirstByte                 // the request taken, and the head of a response
	BetweenBytes              // more of the body
)

// String returns the phase as a noun.
func (p Phase) String() string {
	switch p {
	case Connect:
		return "connection"
	case FirstByte:
		return "first byte"
	case BetweenBytes:
		return "next bytes"
	default:
		panic(fmt.Sprintf("upstream: phase %d", uint8(p)))
	}
}

// Error is why an exchange failed. Its text is for logs, never for clients.
type Error struct {
	Kind  Kind
	Phase Phase // meaningful with Kind Timeout
	Err   error // the cause
}

func (e *Error) Error() string {
	if e.Kind == Timeout {
		return fmt.Sprintf("upstream: timeout waiting for the %v: %v", e.Phase, e.Err)
	}
	return fmt.Sprintf("upstream: %v: %v", e.Kind, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Unreachable reports whether the origin gave no (whole) answer: refused, reset or
// timed out. It is the case in which a stale response may be used (RFC 9111
// section 4.2.4). An origin whose certificate is wrong or that speaks nonsense was
// reached.
func (e *Error) Unreachable() bool {
	return e.Kind == Refused || e.Kind == Reset || e.Kind == Timeout
}

// Timeout reports whether the failure is a wait that grew too long: 504, not 502.
func (e *Error) Timeout() bool { return e.Kind == Timeout }

// ClientFault reports whether the request's own body was the cause: 400, and
// nothing that may count against the origin.
func (e *Error) ClientFault() bool { return e.Kind == ClientBody }

// waited is the cause with which an exchange's timer cancels it.
type waited struct{ phase Phase }

func (w *waited) Error() string { return "no " + w.phase.String() + " in time" }

// classify names the error of an exchange. client is why the request's body could
// not be read, cause and parent are what ended the exchange's own context and the
// caller's; nil each when it did not. The order matters: what this side did to the
// connection explains the network's error, never the other way round.
func classify(err, client, cause, parent error) *Error {
	var late *waited
	switch {
	case client != nil:
		return &Error{Kind: ClientBody, Err: client}
	case errors.As(cause, &late):
		return &Error{Kind: Timeout, Phase: late.phase, Err: late}
	case errors.Is(parent, context.DeadlineExceeded):
		return &Error{Kind: Timeout, Phase: FirstByte, Err: err}
	case parent != nil:
		return &Error{Kind: Canceled, Err: err}
	}

	var (
		op      *net.OpError
		timeout net.Error
		certErr *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
	)
	dial := errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		// All of our own waits end by cause; what is left is the dialer's
		// limit and the TLS handshake's.
		return &Error{Kind: Timeout, Phase: Connect, Err: err}
	case dial:
		return &Error{Kind: Refused, Err: err}
	case errors.As(err, &certErr), errors.As(err, &record), errors.As(err, &alert),
		errors.As(err, &unknown), errors.As(err, &name):
		return &Error{Kind: TLS, Err: err}
	case op != nil && (op.Op == "remote error" || op.Op == "local error"):
		// How crypto/tls wraps the alerts that it received or sent.
		return &Error{Kind: TLS, Err: err}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		err.Error() == serverClosedIdle:
		return &Error{Kind: Reset, Err: err}
	default:
		return &Error{Kind: Protocol, Err: err}
	}
}

// serverClosedIdle is the text of an error that net/http keeps to itself: the
// connection ended before the response's first byte. A test holds it to be true.
const serverClosedIdle = "http: server closed idle connection"
