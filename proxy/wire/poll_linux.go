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
	accepting int       // descriptor to accept from, or -1
	resting   time.Time // no accepting before this
	clients   roster
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
	in        []byte    // what was read from those in arrived; the rest of its capacity is spare
	arrived   []arrival // whose requests are to be answered, at most batch
	coming    []*Answer // of those, what Options.Prefetch is told of
	out       []byte    // answers of one client behind those of another
	mark      int       // where in out those of the client begin that is dealt with
	posted    []posting // whose the answers before mark are
}

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

	// batch is how many requests go through the stages of a turn together, and
	// batchBytes how much there is of their answers before it is sent: more would not be
	// in the processor's caches any more.
	batch      = 32
	batchBytes = 64 << 10
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
	lp = &loop{listener: l, others: ls, epoll: -1, bell: -1, accepting: -1,
		arrived: make([]arrival, 0, batch), in: make([]byte, 0, 2*l.loopRoom()), quiet: make(chan struct{})}
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

// loopRoom is what one read takes, behind a head that was begun before.
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
		lp.turn(lp.events[:n])
		lp.expire()
		if !lp.soonest.IsZero() && !lp.now.Before(lp.nextSweep()) {
			lp.sweep()
		}
		if lp.drained && lp.clients.number == 0 {
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
	for c := range lp.clients.all {
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
	if err := lp.watch(c.fd, requests); err != nil {
		lp.close(c)
		return
	}
	lp.clients.enter(c)
	lp.rest(c)
	lp.resume(c)
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

// handOver makes the client's connection one of net/http's, with what it has sent.
func (lp *loop) handOver(c *client) {
	lp.unwatch(c.fd)
	lp.clients.leave(c)
	if c.mode == holding {
		sysWakeAt(c.fd, 1) // again, or what comes next would be waited for in vain
	}
	file := os.NewFile(uintptr(c.fd), "connection")
	inner, err := net.FileConn(file)
	if err != nil { // most likely no descriptor is left
		lp.listener.refused(c.remote(), noRoom)
		_, _ = sysWrite(c.fd, noRoom.problem(lp.now, c.in)) // to a client that takes it
		_, _ = sysRead(c.fd, make([]byte, readSize))        // see linger: without a descriptor there is no waiting for more
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
	for c := range lp.clients.all {
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
		if lp.clients.at(c.fd) != c || c.due.IsZero() || lp.now.Before(c.due) {
			continue // gone, or heard of
		}
		switch c.mode {
		case heading:
			lp.listener.refused(c.remote(), lateHead)
		case holding:
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
	lp.clients.leave(c)
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
}
