package wire

import (
	"bytes"
	"syscall"
	"unsafe"
)

// arrival is what a client has sent, in its loop's in.
type arrival struct {
	c  *client
	in []byte   // what of it has not been answered
	a  *Answer  // to the first request of in that has not been answered; stays for the next arrival
	n  int      // bytes of its head; zero when that is not whole
	no *Refusal // of it
}

// judge reads the head that in begins with.
func (r *arrival) judge(lp *loop) {
	r.a.peer, r.a.Started = r.c, lp.now
	r.n, r.no = r.a.Request.read(r.in, &lp.listener.options.Limits)
}

// forget makes room for the next arrival.
func (r *arrival) forget() {
	if r.a != nil {
		r.a.peer, r.a.State = nil, nil
	}
	*r = arrival{a: r.a}
}

// answerable reports whether the request is one to ask Options.Answer about.
func (r *arrival) answerable(o *Options) bool {
	return r.n > 0 && r.no == nil && o.Answer != nil && r.a.plain()
}

// posting is a client whose answers end at end in its loop's out.
type posting struct {
	c   *client
	end int
}

// requests are the events of a client that may send a request. The system tells of each
// once, when it comes; to tell of it for as long as there is something to read would take
// it one more look at each connection. So a read has to take all that there is, or has to
// have the system look again.
const requests = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLPRI | 1<<31 // EPOLLET, which package syscall has as a negative number

// turn deals with what has happened. Requests go through it in stages, a batch of them
// at a time: first they are read, then they are judged, then they are answered, and then
// the answers are sent. A system call drives out of the processor's caches what the next
// request would find there, and so it does once for a batch and not once for each; and
// what many answers take from memory can be waited for at once. What has happened to
// connections in other states comes after them.
func (lp *loop) turn(events []syscall.EpollEvent) {
	others := events[:0]
	for _, e := range events {
		c := lp.clients.at(int(e.Fd))
		if c == nil || c.mode != resting && c.mode != heading {
			others = append(others, e)
			continue
		}
		if len(lp.arrived) == batch || len(lp.spare()) < lp.listener.loopRoom() {
			lp.settle()
		}
		lp.read(c, e.Events)
	}
	lp.settle()
	for _, e := range others {
		lp.serve(int(e.Fd))
	}
}

// serve deals with what has happened to a descriptor that brings no request.
func (lp *loop) serve(fd int) {
	switch {
	case fd == lp.bell:
		lp.open()
		return
	case fd == lp.accepting:
		lp.accept(few)
		return
	}
	c := lp.clients.at(fd)
	switch {
	case c == nil: // it went with an event before this one
	case c.mode == taking:
		lp.send(c)
	case c.mode == draining:
		lp.discard(c)
	case c.mode == holding:
		lp.hoard(c)
	}
}

// rest has the client wait for its next request.
func (lp *loop) rest(c *client) {
	c.mode, c.due = resting, lp.after(lp.listener.options.Idle)
}

// read reads what a client has sent. There may be more of it when it fills the room, when
// the end has come as well, and behind urgent data, where a read stops.
func (lp *loop) read(c *client, events uint32) {
	room := lp.spare()[:lp.listener.loopRoom()]
	if events&(syscall.EPOLLRDHUP|syscall.EPOLLPRI) != 0 {
		lp.rewatch(c.fd, requests)
	}
	had := copy(room, c.in)
	n := lp.receive(c, room[had:])
	if n == 0 {
		return
	}
	in := room[:had+n]
	if len(in) == len(room) {
		lp.rewatch(c.fd, requests)
	}
	lp.in = lp.in[:len(lp.in)+len(in)]
	lp.arrive(c, in)
}

// arrive puts what a client has sent among what is to be settled.
func (lp *loop) arrive(c *client, in []byte) {
	lp.arrived = lp.arrived[:len(lp.arrived)+1]
	r := &lp.arrived[len(lp.arrived)-1]
	if r.c, r.in = c, in; r.a == nil {
		r.a = lp.listener.answers.get()
	}
}

// receive reads into room. It returns zero when nothing has come, or when the client is
// gone: then it is closed.
func (lp *loop) receive(c *client, room []byte) int {
	n, errno := sysRead(c.fd, room)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return 0
	case n <= 0:
		lp.close(c)
		return 0
	}
	return n
}

// spare is what of the loop's room for reading has nothing in it.
func (lp *loop) spare() []byte { return lp.in[len(lp.in):cap(lp.in)] }

// settle judges and answers what was read, and sends the answers.
func (lp *loop) settle() {
	lp.prefetch()
	for i := range lp.arrived {
		r := &lp.arrived[i]
		lp.work(r)
		r.forget()
		if len(lp.out) >= batchBytes {
			lp.dispatch()
		}
	}
	lp.dispatch()
	lp.arrived, lp.in = lp.arrived[:0], lp.in[:0]
}

// prefetch judges the first request of each client, and tells of those that are going to
// be asked about.
func (lp *loop) prefetch() {
	o := &lp.listener.options
	for i := range lp.arrived {
		r := &lp.arrived[i]
		if r.judge(lp); o.Prefetch != nil && r.answerable(o) {
			lp.coming = append(lp.coming, r.a)
		}
	}
	if len(lp.coming) > 0 {
		o.Prefetch(lp.coming)
		lp.coming = lp.coming[:0] // they are those of arrived
	}
}

// resume works on what a client had sent before.
func (lp *loop) resume(c *client) {
	if len(c.in) > 0 {
		lp.arrive(c, c.in)
		lp.settle()
	}
}

// work answers what a client has sent, request by request, until there is nothing
// left that can be judged, or an answer is waited for. The first has been judged.
func (lp *loop) work(r *arrival) {
	o := &lp.listener.options
	c, begun := r.c, r.c.mode == heading
	for given := int64(0); ; r.judge(lp) {
		switch {
		case r.no != nil:
			lp.refuse(c, r.in, r.no)
			return
		case r.n == 0:
			lp.wind(c, r.in, begun)
			return
		case !r.answerable(o) || !o.Answer(r.a):
			if lp.keep(c, r.in); lp.flush(c) {
				lp.part(c, r.n+r.a.heldBack(o.Hold))
			}
			return
		}
		begun = false
		r.a.measure()
		given += r.a.size
		if int64(len(lp.out)-lp.mark)+r.a.size <= copied {
			lp.gather(r.a)
		} else if !lp.deliver(r) {
			return
		}
		switch r.in = r.in[r.n:]; {
		case len(r.in) == 0:
			lp.wind(c, nil, false)
			return
		case given >= share:
			if lp.keep(c, r.in); lp.flush(c) {
				lp.await(c)
			}
			return
		}
	}
}

// part ends the loop's part in a request of which so many bytes must have come.
func (lp *loop) part(c *client, need int) {
	if len(c.in) >= need || lp.hasty {
		lp.handOver(c)
		return
	}
	c.mode, c.due = holding, lp.after(lp.listener.options.Body)
	lp.rewatch(c.fd, syscall.EPOLLIN) // told of until it is read: hoard need not take all
	c.holdFor(need - len(c.in))
}

// holdFor has the system gather so many bytes before it wakes anybody: a client that
// sends them one by one costs no more than one that does not. The end of a connection
// wakes all the same.
func (c *client) holdFor(bytes int) {
	c.left = bytes
	sysWakeAt(c.fd, bytes)
}

// hoard reads what has come of a body that is held.
func (lp *loop) hoard(c *client) {
	n := lp.receive(c, lp.spare())
	if n == 0 {
		return
	}
	c.in = append(c.in, lp.spare()[:n]...)
	if n >= c.left {
		lp.handOver(c)
		return
	}
	c.holdFor(c.left - n)
}

// letGo hands on all that is held.
func (lp *loop) letGo() {
	for c := range lp.clients.all {
		if c.mode == holding {
			lp.handOver(c)
		}
	}
}

// wind ends the work on what a client has sent: its answers go out with those of
// others, and it waits for its next request, or for the rest of one that it has begun.
func (lp *loop) wind(c *client, in []byte, begun bool) {
	lp.keep(c, in)
	switch {
	case len(in) == 0:
		lp.rest(c)
	case !begun:
		c.mode, c.due = heading, lp.after(lp.listener.options.Head)
	}
	if len(lp.out) > lp.mark {
		lp.mark = len(lp.out)
		lp.posted = append(lp.posted, posting{c, lp.mark})
	}
}

// dispatch sends what is posted.
func (lp *loop) dispatch() {
	from := 0
	for _, p := range lp.posted {
		lp.transmit(p.c, lp.out[from:p.end])
		from = p.end
	}
	clear(lp.posted)
	lp.posted, lp.out, lp.mark = lp.posted[:0], lp.out[:0], 0
}

// gather puts a small answer behind those that are to go with it.
func (lp *loop) gather(a *Answer) {
	lp.out = append(lp.out, a.Head...)
	for _, chunk := range a.Body {
		lp.out = append(lp.out, chunk...)
	}
	a.sent = a.size
	lp.listener.answered(a)
	a.reset()
}

// keep has the client keep bytes that are not judged yet: what was read last is
// overwritten by the next read.
func (lp *loop) keep(c *client, in []byte) {
	switch {
	case len(in) == 0:
		c.in = nil
	case len(c.in) != len(in) || &in[0] != &c.in[0]:
		c.in = bytes.Clone(in)
	}
}

// flush sends what was gathered for a client. It returns false when the client does
// not take it all now, or is gone.
func (lp *loop) flush(c *client) bool {
	mine := lp.out[lp.mark:]
	lp.out = lp.out[:lp.mark]
	return len(mine) == 0 || lp.transmit(c, mine)
}

// transmit sends answers to a client, with the same result as flush.
func (lp *loop) transmit(c *client, out []byte) bool {
	n, errno := sysWrite(c.fd, out)
	if n == len(out) {
		return true
	}
	if errno != 0 && errno != syscall.EAGAIN && errno != syscall.EINTR {
		lp.close(c)
		return false
	}
	c.out = bytes.Clone(out[max(n, 0):])
	lp.await(c)
	return false
}

// deliver sends what was gathered and, behind it, the answer to the request at hand, whose
// body is too large to be copied. It returns false when the client does not take it all
// now, or is gone.
func (lp *loop) deliver(r *arrival) bool {
	c, a := r.c, r.a
	left, done, errno := lp.push(c.fd, lp.out[lp.mark:], a)
	lp.out = lp.out[:lp.mark]
	if done {
		lp.listener.answered(a)
		a.reset()
		return true
	}
	lp.keep(c, r.in[r.n:])
	a.own(r.in[:r.n])
	c.out, c.answer, r.a = bytes.Clone(left), a, nil
	if errno != 0 {
		lp.close(c)
		return false
	}
	lp.await(c)
	return false
}

// send goes on with what a client has not taken yet, and once that has gone, with
// what it has sent meanwhile.
func (lp *loop) send(c *client) {
	before := int64(len(c.out))
	if c.answer != nil {
		before -= c.answer.sent
	}
	left, done, errno := lp.push(c.fd, c.out, c.answer)
	if c.out = left; errno != 0 {
		lp.close(c)
		return
	}
	if !done {
		now := int64(len(c.out))
		if c.answer != nil {
			now -= c.answer.sent
		}
		if now != before { // not silent
			c.due = lp.after(lp.listener.options.Silence)
		}
		return
	}
	c.out = nil
	if c.answer != nil {
		lp.listener.answered(c.answer)
		lp.listener.answers.put(c.answer)
		c.answer = nil
	}
	if c.closes || lp.drained {
		lp.linger(c)
		return
	}
	lp.rest(c)
	lp.rewatch(c.fd, requests)
	lp.resume(c)
}

// push sends out and, behind it, the answer, if there is one. It returns what is left
// of out, and whether all has gone.
func (lp *loop) push(fd int, out []byte, a *Answer) (left []byte, done bool, failure syscall.Errno) {
	for {
		count, size := lp.gird(out, a)
		if count == 0 {
			return nil, true, 0
		}
		n, errno := sysWritev(fd, lp.vectors[:count])
		clear(lp.vectors[:count])
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return out, false, 0
		case errno != 0:
			return out, false, errno
		}
		took := min(n, len(out))
		if out = out[took:]; a != nil {
			a.sent += int64(n - took)
		}
		if n < size {
			return out, false, 0
		}
	}
}

// gird lays out what is left to send, as far as one system call takes it.
func (lp *loop) gird(out []byte, a *Answer) (count, size int) {
	add := func(p []byte) bool {
		if len(p) > 0 {
			lp.vectors[count].Base = unsafe.SliceData(p)
			lp.vectors[count].SetLen(len(p))
			count, size = count+1, size+len(p)
		}
		return count < maxVectors
	}
	add(out)
	if a == nil {
		return count, size
	}
	skip := a.sent
	rest := func(p []byte) []byte {
		n := min(skip, int64(len(p)))
		skip -= n
		return p[n:]
	}
	add(rest(a.Head))
	for _, chunk := range a.Body {
		if !add(rest(chunk)) {
			break
		}
	}
	return count, size
}

// await has the client wait until it takes more.
func (lp *loop) await(c *client) {
	c.mode, c.due = taking, lp.after(lp.listener.options.Silence)
	lp.rewatch(c.fd, syscall.EPOLLOUT)
}

// refuse says why the request that in begins with is not taken, behind the answers
// before it, and ends the connection.
func (lp *loop) refuse(c *client, in []byte, no *Refusal) {
	lp.listener.refused(c.remote(), no)
	lp.out = append(lp.out, no.problem(lp.now, in)...)
	c.in, c.closes = nil, true
	if lp.flush(c) {
		lp.linger(c)
	}
}

// linger ends the sending side of a connection, and reads the other a while longer:
// what has come and was not read would have the client's answer thrown away with the
// connection (RFC 9112 section 9.6).
func (lp *loop) linger(c *client) {
	if err := syscall.Shutdown(c.fd, syscall.SHUT_WR); err != nil {
		lp.close(c)
		return
	}
	sysWakeAt(c.fd, 1) // it may have held a body
	c.mode, c.due, c.left = draining, lp.after(lingering), lingeringBytes
	lp.rewatch(c.fd, syscall.EPOLLIN)
}

// discard reads what a client still sends, and throws it away.
func (lp *loop) discard(c *client) {
	n := lp.receive(c, lp.spare())
	if c.left -= n; n > 0 && c.left <= 0 {
		lp.close(c)
	}
}
