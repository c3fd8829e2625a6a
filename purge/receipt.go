package purge

import (
	"context"
	"errors"
)

// Receipt tells how far a purge has come.
type Receipt struct {
	ID       string         `json:"id"`       // names the purge to every node of the fleet
	Soft     bool           `json:"soft"`     // as it was asked for
	Complete bool           `json:"complete"` // no request received from now on is answered with older content, by any node
	Nodes    []NodeProgress `json:"nodes"`
	Note     string         `json:"note,omitempty"` // what weakens the promise, for a person; "" is nothing
}

// NodeProgress is one node's part in a receipt.
type NodeProgress struct {
	ID      string  `json:"id"`
	Applied bool    `json:"applied"`
	State   string  `json:"state,omitempty"`      // "", or "lost" (silent, not yet fenced), "fenced" (silent for so long that it serves nothing unasked)
	Latency float64 `json:"latency_ms,omitempty"` // until the caller's node saw it applied, in milliseconds by that node's clock; 0 when unknown
}

// Recorder takes purges and follows them through the fleet.
type Recorder interface {
	// Record writes the records to the log, all or none, and applies them here. When
	// the fleet's log cannot be reached they are applied on this node and the error
	// is ErrNotRecorded. The receipt is as it stands when this node has applied them.
	Record(ctx context.Context, records []Record) (Receipt, error)

	// Follow returns the receipt as soon as it is complete, or as it stands when ctx
	// ends. A ctx that has ended asks for how it stands now. ErrUnknownPurge says
	// that no such purge is known.
	Follow(ctx context.Context, id string) (Receipt, error)
}

var (
	// ErrNotRecorded says that the fleet's log did not take the purge. This node
	// has applied it, and will write it to the log when it can; repeating it is safe.
	ErrNotRecorded = errors.New("purge: applied on this node only: the log of the fleet cannot be reached")

	// ErrUnknownPurge says that no purge of this id is known (any more).
	ErrUnknownPurge = errors.New("purge: no such purge")
)
