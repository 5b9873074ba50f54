package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// What no machine has a use for is a slip of the pen.
const (
	maxWorkers     = 1 << 15 // processes, of one pool
	maxConcurrency = 1 << 15
	maxSpawnRate   = 1000
	minMemory      = 1 << 20
)

// bend fits the numbers of workers that the file does not give to those that it
// gives: one key alone is never at odds with the default of another. What a preset stands
// for it fills in.
func (r *report) bend(c *Config) {
	for i := range c.Pools {
		if w := c.Pools[i].Worker; w != nil && w.Scale == "dynamic" {
			r.bendWorker(fmt.Sprintf("pools[%d].worker.", i), w)
		}
		if c.Pools[i].Sandbox.Preset == "strict" {
			r.strict(fmt.Sprintf("pools[%d].sandbox.", i), &c.Pools[i])
		}
	}
}

func (r *report) bendWorker(key string, w *Worker) {
	if !r.given(key + "max") {
		for name, n := range map[string]int{"min": w.Min, "min_spare": w.MinSpare, "max_spare": w.MaxSpare} {
			if r.given(key + name) {
				w.Max = max(w.Max, min(n, maxWorkers))
			}
		}
	}
	if !r.given(key + "max_spare") {
		if r.given(key + "min_spare") {
			w.MaxSpare = max(w.MaxSpare, w.MinSpare)
		}
		w.MaxSpare = min(w.MaxSpare, w.Max)
	}
	if !r.given(key + "min_spare") {
		w.MinSpare = min(w.MinSpare, w.MaxSpare)
	}
	if !r.given(key + "min") {
		w.Min = min(w.Min, w.Max)
	}
}

// runners reports what is wrong with what a pool runs, of which there must be one.
func (r *report) runners(key string, p *Pool) {
	r.oneRunner(key, p)
	if p.Process != nil {
		r.process(key+".process", p.Process)
	}
	if p.Worker != nil {
		r.worker(key+".worker", p.Worker)
	}
	if p.Function != nil {
		r.function(key+".function", p.Function)
		r.noPrograms(key, p)
	}
}

// noPrograms reports keys that mean nothing in a pool which starts no program.
func (r *report) noPrograms(key string, p *Pool) {
	for name, list := range map[string][]string{".env": p.Env, ".pass_params": p.PassParams, ".slow.command": p.Slow.Command} {
		if len(list) > 0 {
			r.add(key+name, "is for programs, and a pool of functions starts none")
		}
	}
	if p.Sandbox.isGiven() {
		r.add(key+".sandbox", "is for programs, and a pool of functions starts none")
	}
}

func (r *report) oneRunner(key string, p *Pool) {
	var keys []string
	for _, name := range p.kinds() {
		keys = append(keys, key+"."+name)
	}
	if len(keys) == 0 && !slices.ContainsFunc(runners, func(name string) bool { return r.silent(key + "." + name) }) {
		r.addAt(r.find(key), "needs process, worker or function: what the pool runs")
		return
	}
	slices.SortStableFunc(keys, func(a, b string) int {
		p, q := r.find(a), r.find(b)
		return cmp.Or(cmp.Compare(p.line, q.line), cmp.Compare(p.column, q.column))
	})
	for len(keys) > 1 {
		r.addAt(r.find(keys[1]), "a pool has one of process, worker and function, and this one has %s at %s",
			strings.TrimPrefix(keys[0], key+"."), r.find(keys[0]))
		keys = slices.Delete(keys, 1, 2)
	}
}

func (r *report) worker(key string, w *Worker) {
	if len(w.Command) == 0 {
		r.add(key+".command", "needs a program that accepts FastCGI connections on fd 0: its absolute path, then its arguments")
	}
	r.argv(key+".command", w.Command)
	r.files(key, w.Root, w.Extensions)
	r.oneOf(key+".connections", w.Connections, "managed", "direct")
	r.oneOf(key+".scale", w.Scale, "static", "dynamic", "ondemand")
	r.oneOf(key+".dispatch", w.Dispatch, "lifo", "fifo")
	r.oneOf(key+".reload", w.Reload, "changed", "always")
	r.oneOf(key+".stderr", w.Stderr, "log", "client", "both")
	r.workerNumbers(key, w)
	if w.Scale == "dynamic" {
		r.spares(key, w)
	}
	for i, v := range w.WarmUp {
		r.env(fmt.Sprintf("%s.warm_up[%d]", key, i), v)
	}
	if w.Dir != "" {
		r.absolute(key+".dir", w.Dir)
	}
}

func (r *report) workerNumbers(key string, w *Worker) {
	r.count(key+".max", w.Max, 1, maxWorkers)
	r.count(key+".min", w.Min, 0, maxWorkers)
	r.count(key+".min_spare", w.MinSpare, 0, maxWorkers)
	r.count(key+".max_spare", w.MaxSpare, 0, maxWorkers)
	r.count(key+".concurrency", w.Concurrency, 1, maxConcurrency)
	r.count(key+".spawn_rate", w.SpawnRate, 1, maxSpawnRate)
	r.count(key+".max_requests", w.MaxRequests, 0, math.MaxInt32)
	r.duration(key+".start_timeout", w.StartTimeout, 100*time.Millisecond, time.Hour)
	r.duration(key+".stop_grace", w.StopGrace, 0, time.Hour)
	if w.MaxLifetime > 0 && w.MaxLifetime < time.Second {
		r.add(key+".max_lifetime", "must be at least 1s, or 0 for no limit, not %s", formatDuration(w.MaxLifetime))
	}
	if w.MaxMemory > 0 && w.MaxMemory < minMemory {
		r.add(key+".max_memory", "must be at least %s, or 0 for no limit, not %d bytes", formatSize(minMemory), w.MaxMemory)
	}
}

func (r *report) count(key string, n, least, most int) {
	if n < least || n > most {
		r.add(key, "must be from %d to %d, not %d", least, most, n)
	}
}

func (r *report) duration(key string, d, least, most time.Duration) {
	if d < least || d > most {
		r.add(key, "must be from %s to %s, not %s", formatDuration(least), formatDuration(most), formatDuration(d))
	}
}

// spares reports numbers of workers that cannot be true together. After bend
// they are all given.
func (r *report) spares(key string, w *Worker) {
	numbers := map[string]int{"max": w.Max, "min": w.Min, "min_spare": w.MinSpare, "max_spare": w.MaxSpare}
	for _, pair := range [][2]string{{"min", "max"}, {"max_spare", "max"}, {"min_spare", "max"}, {"min_spare", "max_spare"}} {
		small, large := key+"."+pair[0], key+"."+pair[1]
		sound := r.given(small) && r.given(large) && !r.silent(small) && !r.silent(large)
		if a, b := numbers[pair[0]], numbers[pair[1]]; sound && a > b {
			r.add(small, "%d is more than %s, which is %d at %s", a, pair[1], b, r.find(large))
		}
	}
}

// argv reports a program without its absolute path, and what cannot be an
// argument.
func (r *report) argv(key string, argv []string) {
	for i, arg := range argv {
		k := fmt.Sprintf("%s[%d]", key, i)
		if i == 0 {
			r.absolute(k, arg)
		}
		if strings.ContainsRune(arg, 0) {
			r.add(k, "%q contains NUL", arg)
		}
	}
}

// minSilence is how long any program may take to say something.
const minSilence = 100 * time.Millisecond

// silence reports one that no program keeps, or that none reaches.
func (r *report) silence(key string, p *Pool) {
	switch {
	case p.Silence > 0 && p.Silence < minSilence:
		r.add(key+".silence", "must be at least %s, or 0 for none, not %s", formatDuration(minSilence), formatDuration(p.Silence))
	case p.Timeout > 0 && p.Silence >= p.Timeout:
		r.add(key+".silence", "%s is never reached: timeout, which is %s at %s, ends the request",
			formatDuration(p.Silence), formatDuration(p.Timeout), r.find(key+".timeout"))
	}
}

func (r *report) slow(key string, p *Pool) {
	s, after := p.Slow, key+".slow.after"
	r.argv(key+".slow.command", s.Command)
	r.output(key+".slow.log", s.Log)
	if !r.given(after) && (s.Log != "" || len(s.Command) > 0) {
		r.add(after, "needs a duration, since log or command is given: what runs for longer is slow; 0 is off")
	}
	if p.Timeout > 0 && s.After >= p.Timeout {
		r.add(after, "%s is never reached: timeout, which is %s at %s, ends the request",
			formatDuration(s.After), formatDuration(p.Timeout), r.find(key+".timeout"))
	}
}
