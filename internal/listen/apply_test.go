package listen

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestApplyOfAnotherAddress(t *testing.T) {
	checkNoFDLeak(t)
	l := mustOpen(t, Options{Address: "tcp:127.0.0.1:0"})
	defer l.Close()
	wantError(t, l.Apply(Options{Address: "tcp:127.0.0.1:1"}), "apply to tcp:127.0.0.1:0: options are for tcp:127.0.0.1:1")
}

// The Listener keeps its rules when the caller uses the slices again.
func TestApplyCopies(t *testing.T) {
	checkNoFDLeak(t)
	o := Options{Address: "tcp:127.0.0.1:0", Allow: prefixes("127.0.0.0/8")}
	l := mustOpen(t, o)
	defer l.Close()
	private := prefixes("10.0.0.0/8")
	copy(o.Allow, private)
	if got := l.Options().Allow[0]; got == private[0] {
		t.Error("Options shares the caller's Allow")
	}
}

func TestApplyMode(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	o := Options{Address: "unix:" + path, Mode: 0o600}
	l := mustOpen(t, o)
	defer l.Close()
	inode := lstat(t, path)
	for _, o.Mode = range []fs.FileMode{0o666, 0o660, 0o606, 0o600} {
		if err := l.Apply(o); err != nil {
			t.Fatal(err)
		}
		wantMode(t, path, o.Mode)
		if l.Options().Mode != o.Mode {
			t.Errorf("options have mode %v", l.Options().Mode)
		}
	}
	if !os.SameFile(inode, lstat(t, path)) {
		t.Error("Apply made a new file")
	}
}

// Every client of a time in which Apply runs again and again gets in.
func TestApplyWhileClientsConnect(t *testing.T) {
	unixOptions := Options{Address: "unix:" + tempSocket(t)}
	tests := map[string][]Options{
		"unix": {unixOptions, unixOptions, unixOptions},
		"tcp":  {{Address: "tcp:127.0.0.1:0"}, {Address: "tcp:127.0.0.1:0"}, {Address: "tcp:127.0.0.1:0"}},
	}
	for i := range tests["unix"] {
		tests["unix"][i].Mode = []fs.FileMode{0o600, 0o660, 0o666}[i]
		tests["unix"][i].AllowUIDs = [][]uint32{nil, {uint32(os.Getuid())}, {0, 1, uint32(os.Getuid())}}[i]
		tests["unix"][i].Backlog = []int{100, 200, 0}[i]
		tests["tcp"][i].Allow = prefixes("127.0.0.0/8", "10.0.0.0/8")[:i%2]
		tests["tcp"][i].Backlog = []int{100, 200, 0}[i]
	}
	for name, options := range tests {
		t.Run(name, func(t *testing.T) {
			checkNoFDLeak(t)
			l := mustOpen(t, options[0])
			refusals := recordRefusals(l)
			done := serve(l)
			stop, stopped := make(chan struct{}), make(chan struct{})
			var applied atomic.Int32
			go func() {
				defer close(stopped)
				applyUntil(t, stop, &applied, l, options)
			}()
			for clients := 0; clients < 100 || applied.Load() < 100; clients++ {
				wantClosed(t, dial(t, l)) // by serve
			}
			close(stop)
			<-stopped
			l.Close()
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			if len(refusals) > 0 {
				t.Errorf("refused: %v", <-refusals)
			}
		})
	}
}

func applyUntil(t *testing.T, stop <-chan struct{}, applied *atomic.Int32, l *Listener, options []Options) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		if err := l.Apply(options[i%len(options)]); err != nil {
			t.Error(err)
		}
		applied.Add(1)
	}
}

func TestUnixBacklog(t *testing.T) {
	for name, address := range map[string]string{"path": "unix:" + tempSocket(t), "abstract": abstractAddress(t)} {
		t.Run(name, func(t *testing.T) {
			checkNoFDLeak(t)
			o := Options{Address: address, Mode: 0o600, Backlog: 2}
			l := mustOpen(t, o)
			defer l.Close()
			waiting := fillBacklog(t, l)
			if waiting != 3 { // the kernel takes one more than the backlog
				t.Errorf("%d connections fit in a backlog of 2", waiting)
			}
			o.Backlog = 5
			if err := l.Apply(o); err != nil {
				t.Fatal(err)
			}
			if waiting += fillBacklog(t, l); waiting != 6 {
				t.Errorf("%d connections fit in a backlog of 5", waiting)
			}
			for range waiting {
				accept(t, l) // none was lost
			}
		})
	}
}

// tcpBacklog: tcpi_sacked of a listening socket is sk_max_ack_backlog.
func tcpBacklog(t *testing.T, l *Listener) (n uint32) {
	t.Helper()
	err := withFD(l.ln, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = info.Sacked
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTCPBacklog(t *testing.T) {
	checkNoFDLeak(t)
	o := Options{Address: "tcp:127.0.0.1:0"}
	l := mustOpen(t, o)
	defer l.Close()
	largest := tcpBacklog(t, l)
	for _, o.Backlog = range []int{7, 9, 0} {
		if err := l.Apply(o); err != nil {
			t.Fatal(err)
		}
		want := uint32(o.Backlog)
		if want == 0 {
			want = largest
		}
		if got := tcpBacklog(t, l); got != want {
			t.Errorf("backlog %d after Apply of %d, want %d", got, o.Backlog, want)
		}
	}
	o.Backlog = 3
	opened := mustOpen(t, o)
	defer opened.Close()
	if got := tcpBacklog(t, opened); got != 3 {
		t.Errorf("backlog %d after Open with 3", got)
	}
}

func TestApplyAfterClose(t *testing.T) {
	checkNoFDLeak(t)
	o := Options{Address: "tcp:127.0.0.1:0", Backlog: 1}
	l := mustOpen(t, o)
	l.Close()
	o.Backlog = 2
	if err := l.Apply(o); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Apply after Close: %v", err)
	}
	if got := l.Options().Backlog; got != 1 {
		t.Errorf("backlog %d", got)
	}
}
