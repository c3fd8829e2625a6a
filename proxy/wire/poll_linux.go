package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"edge/proxy/socket"
)

// A loop serves TCP connections between requests. It waits for all of its
// connections at once, reads what has come, answers the requests that can be answered
// here, each read with one write, and hands the others on to net/http. It never waits
// for a single client: what a client does not take is kept and sent when it does.
//
// What it saves beside goroutines that each wait for their own connection is the read
// that finds nothing, a switch to and from a goroutine for each request, and the
// memory of goroutine and buffers for each connection that is idle.
type loop struct {
	listener *Listener
	epoll    int
	file     *os.File // of epoll, which has the runtime wait for it
	raw      syscall.RawConn
	bell     int // an eventfd, rung when there is something in the box
	others   *loops

	mu      sync.Mutex
	box     []*client // guarded by mu: connections that are new to the loop
	hushed  bool      // guarded by mu: no connections are to be accepted, and no bodies to be held
	closing bool      // guarded by mu: idle connections are to be closed
	cutting bool      // guarded by mu: all connections are to be closed
	stopped bool      // guarded by mu: the loop has ended

	quiet chan struct{} // closed when no more connections are accepted, and nothing is held

	// The rest is the loop's own.
	accepting int                // descriptor to accept from, or -1
	resting   time.Time          // no accepting before this
	clients   map[int]*client    // by descriptor
	now       time.Time          // when the events under way were learnt of
	swept     time.Time          // when deadlines were last looked at
	soonest   time.Time          // before this none of them passes; zero: none is set
	alarm     time.Time          // when the wait for events ends by itself; zero: never
	late      []*client          // to be closed or refused by and by, since their time has passed
	hasty     bool               // hushed has been seen: no body is held any more
	drained   bool               // closing has been seen
	cut       bool               // an answer was cut off; to be read when the loop has ended
	ready     int                // how many of events there are, when they were waited for
	polled    func(uintptr) bool // polls, for raw.Read; kept so that it is made once
	events    [256]syscall.EpollEvent
	vectors   [maxVectors]syscall.Iovec
	in        []byte // what was read last
	out       []byte // answers that are not sent yet
	answer    *Answer
}

// client is a connection while it is with its loop.
type client struct {
	fd      int
	client  netip.Addr     // as the listener counts it
	address netip.AddrPort // of the peer
	text    string         // address as text, once it was asked for
	in      []byte         // read, and not dealt with yet: a part of a head, a head and the first of its body, or what came behind an answer that is under way
	out     []byte         // answers that the client has not taken yet
	answer  *Answer        // likewise, behind out, with its own body
	due     time.Time      // when it is closed unless something happens; zero is never
	mode    mode
	closes  bool // once out has gone
	left    int  // bytes to read at most while draining, or still to come while holding
}

func (c *client) remote() string {
	if c.text == "" {
		c.text = c.address.String()
	}
	return c.text
}

// mode is what a client is waited for.
type mode uint8

const (
	resting  mode = iota // the next request
	heading              // the rest of a head
	holding              // the first bytes of a body
	taking               // to take what is to be sent
	draining             // to end, after it was refused
)

// loops are the loops of a listener. The first accepts connections for all.
type loops struct {
	all    []*loop
	next   int            // the loop that gets the next connection; the first loop's own
	ending sync.WaitGroup // of all
}

const (
	// sweeping is how often deadlines are looked at.
	sweeping = 250 * time.Millisecond

	// few is how many connections are accepted, and how many closed because their time
	// has passed, before those that are served have their turn: each takes as long as
	// several answers.
	few = 16

	// backlog is how many connections the system takes for a listener before they are
	// accepted, unless it is told otherwise.
	backlog = 4096

	// breather is how long no connection is accepted after one could not be.
	breather = 50 * time.Millisecond

	// share is how much a client that has asked for many things at once gets before the
	// others have their turn.
	share = 256 << 10

	readSize   = 64 << 10
	maxVectors = 64
)

// open starts the loops, if the listener is one of TCP.
func (ls *loops) open(l *Listener) (err error) {
	tcp, ok := l.Listener.(*net.TCPListener)
	if !ok {
		return nil
	}
	defer func() {
		if err != nil {
			for _, lp := range ls.all {
				lp.release()
			}
			ls.all = nil
			err = fmt.Errorf("wire: starting a loop: %w", err)
		}
	}()
	for range runtime.GOMAXPROCS(0) {
		lp, err := newLoop(l, ls)
		if err != nil {
			return err
		}
		ls.all = append(ls.all, lp)
	}
	if err := ls.all[0].acceptFrom(tcp); err != nil {
		return err
	}
	for _, lp := range ls.all {
		ls.ending.Go(lp.run)
	}
	return nil
}

func (ls *loops) running() bool { return ls.all != nil }

// hush stops accepting, and returns when that is so. What is held goes on to net/http,
// which is going to wait for the requests that it has and for no others.
func (ls *loops) hush() {
	if ls.all == nil {
		return
	}
	for _, lp := range ls.all {
		lp.tell(func() { lp.hushed = true })
	}
	for _, lp := range ls.all {
		<-lp.quiet
	}
}

// close has the loops close what is idle.
func (ls *loops) close() {
	for _, lp := range ls.all {
		lp.tell(func() { lp.closing = true })
	}
}

// drain waits for the loops to end, and cuts off what is under way when ctx has
// ended. It reports whether an answer was.
func (ls *loops) drain(ctx context.Context) (cut bool) {
	stop := context.AfterFunc(ctx, func() {
		for _, lp := range ls.all {
			lp.tell(func() { lp.cutting = true })
		}
	})
	ls.ending.Wait()
	stop()
	for _, lp := range ls.all {
		cut, lp.cut = cut || lp.cut, false
	}
	return cut
}

func newLoop(l *Listener, ls *loops) (lp *loop, err error) {
	lp = &loop{listener: l, others: ls, epoll: -1, bell: -1, accepting: -1, clients: make(map[int]*client), answer: l.answers.get(),
		in: make([]byte, l.loopRoom()), quiet: make(chan struct{})}
	defer func() {
		if err != nil {
			lp.release()
		}
	}()
	if lp.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	bell, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("eventfd2", errno)
	}
	lp.bell = int(bell)
	if err := lp.watch(lp.bell, syscall.EPOLLIN); err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(lp.epoll, true); err != nil { // or the runtime would not wait for it
		return nil, os.NewSyscallError("fcntl", err)
	}
	lp.file = os.NewFile(uintptr(lp.epoll), "epoll")
	if lp.raw, err = lp.file.SyscallConn(); err != nil {
		return nil, err
	}
	lp.polled = func(uintptr) bool {
		lp.ready = lp.poll()
		return lp.ready > 0
	}
	return lp, nil
}

// loopRoom is what one read takes, beside a head that was begun before.
func (l *Listener) loopRoom() int { return readSize + l.options.Limits.Head }

// release closes the loop's own descriptors.
func (lp *loop) release() {
	switch {
	case lp.file != nil:
		lp.file.Close()
	case lp.epoll >= 0:
		syscall.Close(lp.epoll)
	}
	for _, fd := range []int{lp.bell, lp.accepting} {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
}

func (lp *loop) watch(fd int, events uint32) error {
	err := syscall.EpollCtl(lp.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
	return os.NewSyscallError("epoll_ctl", err)
}

func (lp *loop) unwatch(fd int) {
	_ = syscall.EpollCtl(lp.epoll, syscall.EPOLL_CTL_DEL, fd, nil) // it fails only for one that is not watched
}

func (lp *loop) rewatch(fd int, events uint32) {
	if err := syscall.EpollCtl(lp.epoll, syscall.EPOLL_CTL_MOD, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		panic("wire: a connection of the loop is not watched: " + err.Error())
	}
}

// acceptFrom has the loop accept connections.
func (lp *loop) acceptFrom(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	lp.accepting, err = duplicate(raw)
	if err != nil {
		return err
	}
	configure(lp.accepting)
	if at, ok := l.Addr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		dispense(lp.accepting)
	}
	return lp.watch(lp.accepting, syscall.EPOLLIN)
}

// dispense has the connections of a listener that only this machine reaches do
// without a congestion control that paces, as BBR does: to hold back a part of every
// answer beyond 64 KiB for a timer to send took half of the time that such answers
// take, and here there is no network to spare. A connection that has begun with one
// keeps its pace, so it is the listener that is told; reno is there everywhere. That
// it could not be set is no reason not to serve.
func dispense(listener int) {
	_ = syscall.SetsockoptString(listener, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno")
}

// duplicate returns a second descriptor of what raw is open for.
func duplicate(raw syscall.RawConn) (int, error) {
	var fd uintptr
	var errno syscall.Errno
	err := raw.Control(func(other uintptr) {
		fd, _, errno = syscall.Syscall(syscall.SYS_FCNTL, other, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("fcntl", errno)
	}
	return int(fd), err
}

// tell changes something that the loop looks at when it is rung.
func (lp *loop) tell(change func()) {
	lp.mu.Lock()
	defer lp.mu.Unlock()
	if lp.stopped {
		return
	}
	change()
	one := uint64(1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(lp.bell), uintptr(unsafe.Pointer(&one)), 8) // it fails only when the bell has rung already, often
}

// run serves until the listener is closed and no answer is under way.
func (lp *loop) run() {
	defer lp.end()
	for lp.now = time.Now(); ; {
		n := lp.wait()
		lp.now = time.Now()
		for i := range n {
			lp.serve(int(lp.events[i].Fd))
		}
		lp.expire()
		if !lp.soonest.IsZero() && !lp.now.Before(lp.nextSweep()) {
			lp.sweep()
		}
		if lp.drained && len(lp.clients) == 0 {
			return
		}
		runtime.Gosched() // this may be the only processor
	}
}

// nextSweep is when deadlines are to be looked at, if there are any: not all the
// time, since that takes a look at every connection.
func (lp *loop) nextSweep() time.Time {
	if t := lp.swept.Add(sweeping); t.After(lp.soonest) {
		return t
	}
	return lp.soonest
}

// wait returns how many events there are, when there are some or deadlines are to be
// looked at.
func (lp *loop) wait() int {
	if len(lp.late) > 0 {
		return lp.poll()
	}
	var until time.Time
	if !lp.soonest.IsZero() {
		until = lp.nextSweep()
	}
	if until != lp.alarm { // it costs as much as a look-up
		_ = lp.file.SetReadDeadline(until) // a deadline can always be set for an epoll
		lp.alarm = until
	}
	lp.ready = 0
	err := lp.raw.Read(lp.polled)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		panic("wire: waiting for connections: " + err.Error())
	}
	return lp.ready
}

func (lp *loop) poll() int {
	n, errno := sysPoll(lp.epoll, lp.events[:])
	if errno != 0 && errno != syscall.EINTR {
		panic("wire: epoll_wait: " + errno.Error())
	}
	return max(n, 0)
}

// serve deals with what has happened to a descriptor.
func (lp *loop) serve(fd int) {
	switch {
	case fd == lp.bell:
		lp.open()
		return
	case fd == lp.accepting:
		lp.accept(few)
		return
	}
	c := lp.clients[fd]
	switch {
	case c == nil: // it went with an event before this one
	case c.mode == taking:
		lp.send(c)
	case c.mode == draining:
		lp.discard(c)
	case c.mode == holding:
		lp.hoard(c)
	default:
		lp.read(c)
	}
}

// open looks into the box, and at what else the loop was told.
func (lp *loop) open() {
	var count uint64
	_, _, _ = syscall.RawSyscall(syscall.SYS_READ, uintptr(lp.bell), uintptr(unsafe.Pointer(&count)), 8) // nothing to read: it was rung for what is seen already
	lp.mu.Lock()
	box, hushed, closing, cutting := lp.box, lp.hushed, lp.closing, lp.cutting
	lp.box = nil
	lp.mu.Unlock()
	if (hushed || closing) && !lp.hasty {
		if lp.accepting >= 0 {
			lp.acceptNoMore(!closing)
		}
		if lp.hasty = true; !closing {
			lp.letGo()
		}
		close(lp.quiet)
	}
	for _, c := range box {
		lp.take(c)
	}
	if !closing && !cutting {
		return
	}
	lp.drained = true
	for _, c := range lp.clients {
		switch {
		case cutting:
			lp.cut = lp.cut || c.mode == taking
			lp.close(c)
		case c.mode != taking && c.mode != draining:
			lp.close(c)
		}
	}
}

// acceptNoMore ends accepting. Connections that the system has taken already are
// taken from it first if they are wanted: they would be reset.
func (lp *loop) acceptNoMore(wanted bool) {
	if wanted {
		lp.accept(backlog)
	}
	lp.unwatch(lp.accepting)
	syscall.Close(lp.accepting)
	lp.accepting, lp.resting = -1, time.Time{}
}

// take begins to serve a connection.
func (lp *loop) take(c *client) {
	if lp.drained {
		lp.close(c)
		return
	}
	if err := lp.watch(c.fd, syscall.EPOLLIN); err != nil {
		lp.close(c)
		return
	}
	lp.clients[c.fd] = c
	lp.rest(c)
	if len(c.in) > 0 {
		lp.work(c, c.in)
	}
}

// rest has the client wait for its next request.
func (lp *loop) rest(c *client) {
	c.mode, c.due = resting, lp.after(lp.listener.options.Idle)
}

// after returns the time when d has passed; there is none for no d. It is for what
// is looked at by sweep.
func (lp *loop) after(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	t := lp.now.Add(d)
	lp.sooner(t)
	return t
}

func (lp *loop) sooner(t time.Time) {
	if lp.soonest.IsZero() || t.Before(lp.soonest) {
		lp.soonest = t
	}
}

// accept takes so many of the connections that have come at most, and gives each loop
// its share.
func (lp *loop) accept(most int) {
	for range most {
		fd, address, err := syscall.Accept4(lp.accepting, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch err {
		case nil:
		case syscall.EINTR, syscall.ECONNABORTED:
			continue
		case syscall.EAGAIN:
			return
		default: // most likely no descriptor is left: the next may come free any moment
			lp.resting = lp.after(breather)
			lp.unwatch(lp.accepting)
			return
		}
		c := &client{fd: fd, address: addressOf(address)}
		var ok bool
		if c.client, ok = lp.listener.admit(c.address.Addr()); !ok {
			syscall.Close(fd)
			continue
		}
		ls := lp.others
		to := ls.all[ls.next%len(ls.all)]
		ls.next++
		if to == lp {
			lp.take(c)
		} else {
			to.give(c)
		}
	}
}

// give puts a connection in the loop's box. A loop that has ended closes it.
func (lp *loop) give(c *client) {
	given := false
	lp.tell(func() {
		lp.box = append(lp.box, c)
		given = true
	})
	if !given {
		lp.forget(c)
	}
}

func addressOf(a syscall.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// configure sets what package net sets for its connections: no waiting for more to
// send, and word from the peer when it has said nothing for long. On Linux the
// connections of a listener inherit that. That an option could not be set is no reason
// not to serve.
func configure(listener int) {
	const alive = 15 // seconds, as net.Dialer has it
	_ = syscall.SetsockoptInt(listener, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	_ = syscall.SetsockoptInt(listener, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
	_ = syscall.SetsockoptInt(listener, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, alive)
	_ = syscall.SetsockoptInt(listener, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, alive)
}

// read reads what a client has sent, and works on it.
func (lp *loop) read(c *client) {
	had := copy(lp.in, c.in)
	n, errno := sysRead(c.fd, lp.in[had:])
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return
	case n <= 0:
		lp.close(c)
		return
	}
	lp.work(c, lp.in[:had+n])
}

// work judges what a client has sent, request by request, until there is nothing
// left that can be judged, or an answer is waited for.
func (lp *loop) work(c *client, in []byte) {
	o := &lp.listener.options
	begun := c.mode == heading
	lp.out = lp.out[:0]
	for given := int64(0); len(in) > 0; {
		if given >= share {
			if lp.keep(c, in); lp.flush(c) {
				lp.await(c)
			}
			return
		}
		a := lp.answer
		a.peer = c
		n, no := a.Request.read(in, &o.Limits)
		switch {
		case no != nil:
			lp.refuse(c, in, no)
			return
		case n == 0:
			lp.wind(c, in, begun)
			return
		case o.Answer == nil || !a.plain() || !lp.ask(a):
			if lp.keep(c, in); lp.flush(c) {
				lp.part(c, n+a.heldBack(o.Hold))
			}
			return
		}
		begun = false
		a.measure()
		given += a.size
		if int64(len(lp.out))+a.size <= copied {
			lp.gather(a)
		} else if !lp.deliver(c, a, in, n) {
			return
		}
		in = in[n:]
	}
	lp.wind(c, nil, false)
}

// part ends the loop's part in a request of which so many bytes must have come.
func (lp *loop) part(c *client, need int) {
	if len(c.in) >= need || lp.hasty {
		lp.handOver(c)
		return
	}
	c.mode, c.due = holding, lp.after(lp.listener.options.Body)
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
	n, errno := sysRead(c.fd, lp.in)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return
	case n <= 0:
		lp.close(c)
		return
	}
	c.in = append(c.in, lp.in[:n]...)
	if n >= c.left {
		lp.handOver(c)
		return
	}
	c.holdFor(c.left - n)
}

// letGo hands on all that is held.
func (lp *loop) letGo() {
	for _, c := range lp.clients {
		if c.mode == holding {
			lp.handOver(c)
		}
	}
}

// wind ends a turn of work: what was gathered goes out, and the client waits for its
// next request, or for the rest of one that it has begun.
func (lp *loop) wind(c *client, in []byte, begun bool) {
	if lp.keep(c, in); !lp.flush(c) {
		return
	}
	switch {
	case len(in) == 0:
		lp.rest(c)
	case !begun:
		c.mode, c.due = heading, lp.after(lp.listener.options.Head)
	}
}

func (lp *loop) ask(a *Answer) bool {
	a.Started = lp.now
	return lp.listener.options.Answer(a)
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

// flush sends what was gathered. It returns false when the client does not take it
// all now, or is gone.
func (lp *loop) flush(c *client) bool {
	if len(lp.out) == 0 {
		return true
	}
	n, errno := sysWrite(c.fd, lp.out)
	if n == len(lp.out) {
		lp.out = lp.out[:0]
		return true
	}
	if errno != 0 && errno != syscall.EAGAIN && errno != syscall.EINTR {
		lp.close(c)
		return false
	}
	c.out = bytes.Clone(lp.out[max(n, 0):])
	lp.await(c)
	return false
}

// deliver sends what was gathered and, behind it, the answer to the request of n
// bytes that in begins with, whose body is too large to be copied. It returns false
// when the client does not take it all now, or is gone.
func (lp *loop) deliver(c *client, a *Answer, in []byte, n int) bool {
	left, done, errno := lp.push(c.fd, lp.out, a)
	if done {
		lp.out = lp.out[:0]
		lp.listener.answered(a)
		a.reset()
		return true
	}
	lp.keep(c, in[n:])
	a.own(in[:n])
	c.out, c.answer = bytes.Clone(left), a
	lp.answer = lp.listener.answers.get()
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
	c.mode = resting
	lp.rewatch(c.fd, syscall.EPOLLIN)
	lp.work(c, c.in)
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
	lp.out = lp.out[:0]
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
	n, errno := sysRead(c.fd, lp.in)
	if errno == syscall.EAGAIN || errno == syscall.EINTR {
		return
	}
	if c.left -= n; n <= 0 || c.left <= 0 {
		lp.close(c)
	}
}

// handOver makes the client's connection one of net/http's, with what it has sent.
func (lp *loop) handOver(c *client) {
	lp.unwatch(c.fd)
	delete(lp.clients, c.fd)
	if c.mode == holding {
		sysWakeAt(c.fd, 1) // again, or what comes next would be waited for in vain
	}
	file := os.NewFile(uintptr(c.fd), "connection")
	inner, err := net.FileConn(file)
	if err != nil { // most likely no descriptor is left
		lp.listener.refused(c.remote(), noRoom)
		_, _ = sysWrite(c.fd, noRoom.problem(lp.now, c.in)) // to a client that takes it
		_, _ = sysRead(c.fd, lp.in)                         // see linger: without a descriptor there is no waiting for more
	}
	file.Close() // inner has a descriptor of its own
	if err != nil {
		lp.listener.clients.leave(c.client)
		return
	}
	lp.listener.away.Add(1)
	out := &Conn{Conn: socket.Direct(inner.(*net.TCPConn)), listener: lp.listener, client: c.client, home: lp, address: c.address, peer: c.text, in: c.in}
	if !lp.listener.offer(out) {
		out.Close()
	}
}

// takeBack is the end of handOver's way: the connection waits for its next request
// here again.
func (lp *loop) takeBack(c *Conn) error {
	raw, err := socket.TCP(c.Conn).SyscallConn()
	if err != nil {
		return c.close(true)
	}
	fd, err := duplicate(raw)
	if err != nil {
		return c.close(true)
	}
	err = c.Conn.Close()
	lp.listener.away.Add(-1)
	lp.give(&client{fd: fd, client: c.client, address: c.address, text: c.peer, in: bytes.Clone(c.in)})
	return err
}

// sweep finds the connections whose time has passed.
func (lp *loop) sweep() {
	lp.swept, lp.soonest = lp.now, time.Time{}
	switch {
	case lp.resting.IsZero():
	case lp.now.Before(lp.resting):
		lp.sooner(lp.resting)
	case lp.watch(lp.accepting, syscall.EPOLLIN) == nil:
		lp.resting = time.Time{}
	default:
		lp.resting = lp.after(breather)
	}
	for _, c := range lp.clients {
		if c.due.IsZero() {
			continue
		}
		if lp.now.Before(c.due) {
			lp.sooner(c.due)
			continue
		}
		lp.late = append(lp.late, c)
	}
}

// expire ends some of the connections whose time had passed, if that is still so.
func (lp *loop) expire() {
	some := lp.late[:min(few, len(lp.late))]
	for _, c := range some {
		if lp.clients[c.fd] != c || c.due.IsZero() || lp.now.Before(c.due) {
			continue // gone, or heard of
		}
		switch c.mode {
		case heading:
			lp.listener.refused(c.remote(), lateHead)
		case holding:
			lp.out = lp.out[:0] // what is there was for somebody who has gone
			lp.refuse(c, c.in, lateBody)
			continue
		}
		lp.close(c)
	}
	clear(some)
	if lp.late = lp.late[len(some):]; len(lp.late) == 0 {
		lp.late = nil // what was cut off its front would never be used again
	}
}

// close closes a connection of the loop.
func (lp *loop) close(c *client) {
	if c.answer != nil {
		lp.listener.answered(c.answer)
		lp.listener.answers.put(c.answer)
		c.answer = nil
	}
	delete(lp.clients, c.fd)
	lp.forget(c)
}

// forget closes a connection that no loop has.
func (lp *loop) forget(c *client) {
	syscall.Close(c.fd) // which ends the watching, too
	lp.listener.clients.leave(c.client)
}

// end gives back everything that the loop has.
func (lp *loop) end() {
	if !lp.hasty {
		close(lp.quiet)
	}
	lp.mu.Lock()
	lp.stopped = true
	box := lp.box
	lp.box = nil
	lp.mu.Unlock()
	for _, c := range box {
		lp.forget(c)
	}
	lp.release()
	lp.listener.answers.put(lp.answer)
}

// The calls below never wait, so that the scheduler need not be told of them. Were it
// told, its monitor would be woken by each turn of a loop that has had nothing to do,
// and look after it many thousand times a second.

func sysPoll(epoll int, events []syscall.EpollEvent) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	return int(n), errno
}

func sysRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

// sysWakeAt sets how many bytes must have come before a connection is ready to be
// read. For a socket of TCP it does not fail.
func sysWakeAt(fd, bytes int) {
	n := int32(bytes)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, uintptr(unsafe.Pointer(&n)), unsafe.Sizeof(n), 0)
}

func sysWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

func sysWritev(fd int, v []syscall.Iovec) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
	return int(n), errno
}
