// Package config turns a configuration file into checked, typed values: the
// YAML, the files it includes, FCGID_* variables and flags go in, one [Config]
// or all faults at once come out.
//
// Here live the keys, their defaults (the tags of the structs below, and
// nowhere else), their rules and the places of faults. It is the only user of
// viper. It opens no socket, starts no process, and of this module
// it imports only what reads addresses.
package config

import (
	"io/fs"
	"net/netip"
	"syscall"
	"time"
)

// Config is the whole configuration, every absent key filled with its default.
// It is immutable once loaded.
type Config struct {
	Log       Log       `mapstructure:"log"`
	AccessLog AccessLog `mapstructure:"access_log"`
	Admin     Admin     `mapstructure:"admin"`
	// User is who the daemon is when it was started as root, a name or a number; "" is who
	// has started it.
	User string `mapstructure:"user" reload:"start"`
	// Memory bounds PARAMS, bodies and answers in memory, of all pools together.
	Memory int64 `mapstructure:"memory" default:"0"` // at least 16 MiB; 0 is a quarter of what there is
	// SpoolDir holds bodies and answers that are on their way and not in memory.
	SpoolDir string `mapstructure:"spool_dir"` // absolute; "" is the folder for temporary files
	// ShutdownTimeout is how long running requests may end on a graceful stop.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout" default:"30s"`
	// UpgradeTimeout is how long requests that the old daemon has may take after an upgrade.
	UpgradeTimeout time.Duration `mapstructure:"upgrade_timeout" default:"1h"`
	// Include holds the globs as written; what they name is already in Pools.
	Include []string `mapstructure:"include"`
	// Pools holds those of the file and then those of the included files, at least one.
	Pools []Pool `mapstructure:"pools"`

	// RunsAs is what [LoadAndCheck] has found User to be, if that is somebody else than who
	// has started this process, which is root then; nil is who we are.
	RunsAs *Identity

	warnings Faults
	places   map[string]place // of what the files give
}

// Log says where the daemon's own log goes.
type Log struct {
	Level  string `mapstructure:"level"  default:"info"`   // debug, info, warn or error
	Format string `mapstructure:"format" default:"auto"`   // auto, console or json
	Output string `mapstructure:"output" default:"stderr"` // stderr, stdout or a file
}

// AccessLog says where one line a request goes.
type AccessLog struct {
	Output   string   `mapstructure:"output"`                // "" is off; stderr, stdout or a file
	Format   string   `mapstructure:"format" default:"json"` // see [access.Parse]
	Suppress []string `mapstructure:"suppress"`              // paths
}

// Admin is the HTTP server for metrics and health, and the control socket.
type Admin struct {
	Listen string         `mapstructure:"listen" default:"tcp:127.0.0.1:9253"` // "" is off; tcp:host:port or unix:/path
	Allow  []netip.Prefix `mapstructure:"allow"`                               // client networks of tcp; empty: all, of a loopback address only
	URIs   string         `mapstructure:"uris" default:"hidden"`               // hidden: no query strings in /status on TCP; or full
	Hosts  []string       `mapstructure:"hosts"`                               // names that it answers to on TCP, besides localhost and IP addresses
	// Control is the socket through which the daemon takes orders; see [Admin.ControlPath].
	Control string `mapstructure:"control" default:"auto" reload:"start"` // auto, unix:/path; "" is off
}

// Pool is one set of addresses and what answers behind it. Of Process, Worker
// and Function exactly one is not nil.
type Pool struct {
	Name          string        `mapstructure:"name"`   // unique, [A-Za-z0-9_.-]+
	Listen        []Listen      `mapstructure:"listen"` // at least one
	Limits        Limits        `mapstructure:"limits"`
	Timeout       time.Duration `mapstructure:"timeout"         default:"0"` // a request's wall clock; 0 is none
	Silence       time.Duration `mapstructure:"silence"         default:"0"` // of a program while its client waits; 0 is none
	OnClientAbort string        `mapstructure:"on_client_abort"`             // kill, close or ignore; "" is kill, for workers close
	Env           []string      `mapstructure:"env" reload:"workers"`        // NAME=value
	PassEnv       []string      `mapstructure:"pass_env"        default:"PATH,LANG,TZ" reload:"workers"`
	PassParams    []string      `mapstructure:"pass_params"` // names
	StatusPath    string        `mapstructure:"status_path"` // of a URL: php-fpm's status page; "" is none
	PingPath      string        `mapstructure:"ping_path"`   // likewise; "" is none
	PingResponse  string        `mapstructure:"ping_response"   default:"pong"`
	User          string        `mapstructure:"user" reload:"workers"`   // that programs run as, a name or a number; "" is the daemon's
	Group         string        `mapstructure:"group" reload:"workers"`  // "" is the user's
	Groups        []string      `mapstructure:"groups" reload:"workers"` // supplementary ones; empty: the user's own
	Sandbox       Sandbox       `mapstructure:"sandbox"`
	Process       *Process      `mapstructure:"process"`
	Worker        *Worker       `mapstructure:"worker"`
	Function      *Function     `mapstructure:"function"`
	Slow          Slow          `mapstructure:"slow"`

	// RunsAs is what [LoadAndCheck] has found User, Group and Groups to be; nil is who the
	// daemon is.
	RunsAs *Identity
}

// Listen is one address of a pool and who may use it.
type Listen struct {
	Address   string         `mapstructure:"address"`             // unix:/path, unix:@name, tcp:host:port or systemd:NAME
	Mode      fs.FileMode    `mapstructure:"mode" default:"0660"` // of a unix path; means nothing elsewhere
	Owner     string         `mapstructure:"owner"`               // of a unix path: a user name or id; "" leaves it
	Group     string         `mapstructure:"group"`               // of a unix path: a group name or id; "" leaves it
	Backlog   int            `mapstructure:"backlog" default:"0"` // 0 is the kernel's largest
	Allow     []netip.Prefix `mapstructure:"allow"`               // client networks of tcp and systemd; empty: all
	AllowUIDs []uint32       `mapstructure:"allow_uids"`          // client users of unix and systemd; empty: all
}

// Limits bound what clients can make a pool hold. Of counts, sizes and
// durations alike 0 means no limit, unless the field says otherwise. A MaxReqs
// of 0 is 4 for each CPU with a Process, Max times Concurrency with a Worker,
// and 1024 with a Function.
type Limits struct {
	MaxConns         int           `mapstructure:"max_conns"      default:"1024"`
	MaxReqs          int           `mapstructure:"max_reqs"       default:"0"` // 0 depends on what the pool runs
	Multiplex        bool          `mapstructure:"multiplex"      default:"true"`
	Queue            int           `mapstructure:"queue"          default:"1024"` // 0: nobody waits
	QueueTimeout     time.Duration `mapstructure:"queue_timeout"  default:"10s"`
	Params           int64         `mapstructure:"params"         default:"256KiB"`
	Body             int64         `mapstructure:"body"           default:"1GiB"`
	BodyMemory       int64         `mapstructure:"body_memory"    default:"64KiB"`                   // at least 4 KiB
	RequestBuffering bool          `mapstructure:"request_buffering" default:"true"`                 // a request runs when all of its body has come
	AnswerSpool      int64         `mapstructure:"answer_spool"   default:"1GiB"`                    // 0: the program waits for its client
	Spool            int64         `mapstructure:"spool"          default:"8GiB"`                    // of the pool
	StderrRate       int64         `mapstructure:"stderr_rate"    default:"64KiB"`                   // a second, that is logged of what programs write to STDERR
	SingleFields     []string      `mapstructure:"single_fields"  default:"*_USER,*_EMAIL,*_GROUPS"` // [path.Match] patterns of HTTP_ names
	ReadTimeout      time.Duration `mapstructure:"read_timeout"   default:"30s"`
	WriteTimeout     time.Duration `mapstructure:"write_timeout"  default:"60s"`
	IdleTimeout      time.Duration `mapstructure:"idle_timeout"   default:"0"`
}

// Process makes a pool run one CGI process a request.
type Process struct {
	Root         []string      `mapstructure:"root"`         // absolute folders; empty only if Scripts is not
	Scripts      []string      `mapstructure:"scripts"`      // absolute paths or [filepath.Match] patterns
	Extensions   []string      `mapstructure:"extensions"`   // .cgi; empty: any
	Interpreters []Interpreter `mapstructure:"interpreters"` // an extension appears once
	Dir          string        `mapstructure:"dir"`          // "" is the script's folder
	KillGrace    time.Duration `mapstructure:"kill_grace" default:"5s"`
	Linger       time.Duration `mapstructure:"linger"     default:"2s"`  // silence after the exit, while something has STDOUT open
	Stderr       string        `mapstructure:"stderr"     default:"log"` // log, client or both
}

// Interpreter is the program at Path that runs the scripts of one Extension;
// ".php=/usr/bin/php-cgi" in the file.
type Interpreter struct{ Extension, Path string }

// String is the form of the file.
func (i Interpreter) String() string { return i.Extension + "=" + i.Path }

// Worker makes a pool hand requests to FastCGI programs that it keeps alive.
//
// In a dynamic pool Min, MinSpare and MaxSpare are at most Max, and MinSpare is
// at most MaxSpare: what the file does not give bends to what it gives. Other
// pools do not look at these three, nor does a static one at IdleTimeout.
type Worker struct {
	Command      []string       `mapstructure:"command" reload:"workers"`        // argv; the program, an absolute path, accepts on fd 0
	Root         []string       `mapstructure:"root"`                            // absolute folders
	Extensions   []string       `mapstructure:"extensions"`                      // .php; empty: any. With neither of the two, workers look for their scripts
	Connections  string         `mapstructure:"connections"   default:"managed"` // managed, or direct: workers accept those of the web server themselves
	Scale        string         `mapstructure:"scale"         default:"dynamic"` // static (always Max), dynamic (spares) or ondemand
	Max          int            `mapstructure:"max"           default:"8"`       // workers at once, from 1
	Min          int            `mapstructure:"min"           default:"1"`       // workers at least
	MinSpare     int            `mapstructure:"min_spare"     default:"1"`       // workers idle or starting, at least
	MaxSpare     int            `mapstructure:"max_spare"     default:"4"`       // workers idle, at most
	Concurrency  int            `mapstructure:"concurrency"   default:"1"`       // requests that a worker takes at once, from 1
	SpawnRate    int            `mapstructure:"spawn_rate"    default:"32"`      // starts a second, from 1
	IdleTimeout  time.Duration  `mapstructure:"idle_timeout"  default:"60s"`     // a spare idle for longer is stopped; 0: none is
	MaxRequests  int            `mapstructure:"max_requests"  default:"0"`       // a worker is replaced after so many; 0: never
	MaxLifetime  time.Duration  `mapstructure:"max_lifetime"  default:"0"`       // a worker is replaced after so long, from 1s; 0: never
	MaxMemory    int64          `mapstructure:"max_memory"    default:"0"`       // of the worker and its children, from 1 MiB; 0 is no limit
	StartTimeout time.Duration  `mapstructure:"start_timeout" default:"10s"`     // from start to accepting; never 0
	StopSignal   syscall.Signal `mapstructure:"stop_signal"   default:"SIGTERM"`
	StopGrace    time.Duration  `mapstructure:"stop_grace"    default:"10s"`     // from StopSignal to SIGKILL
	WarmUp       []string       `mapstructure:"warm_up" reload:"workers"`        // NAME=value, the parameters of the first request; empty: none is made
	Reload       string         `mapstructure:"reload"        default:"changed"` // which reloads replace the workers: changed ones or always
	Dispatch     string         `mapstructure:"dispatch"      default:"lifo"`    // lifo or fifo
	Dir          string         `mapstructure:"dir" reload:"workers"`            // absolute; "" is the daemon's
	Stderr       string         `mapstructure:"stderr"        default:"log"`     // log, client or both
	LongParams   bool           `mapstructure:"long_params"   default:"false"`   // pass params on that are longer than a record
}

// Function makes a pool answer with functions of this program.
type Function struct {
	Names []string `mapstructure:"names"` // each once; empty: all that the program has
}

// Slow says what is recorded of a request that runs for long.
type Slow struct {
	After   time.Duration `mapstructure:"after" default:"0"` // 0 is off
	Log     string        `mapstructure:"log"`               // stderr, stdout or a file; "" is the daemon's log
	Command []string      `mapstructure:"command"`           // argv, the program an absolute path, "{pid}" in it stands for the process; empty: none
}
