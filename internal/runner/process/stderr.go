package process

import "github.com/fcgid/fcgid/internal/cgi"

// lines takes a script's STDERR to the log and to the web server.
type lines struct {
	run    *run
	cutter cgi.Entries
}

// Write takes a part of STDERR. That the web server does not take it is no
// error: the script is not to notice.
func (l *lines) Write(p []byte) (int, error) {
	if l.run.runner.opt.Stderr != cgi.StderrLog {
		l.run.req.Stderr.Write(p)
	}
	if l.run.runner.opt.Stderr != cgi.StderrClient {
		l.cutter.Add(p, l.log)
	}
	return len(p), nil
}

func (l *lines) log(line string) {
	if admit := l.run.runner.opt.Admit; admit != nil && !admit(len(line)) {
		return
	}
	fields := []any{"line", line, "request", l.run.req.Serial, "id", l.run.req.ID.String(), "script", l.run.script, "pid", l.run.PID}
	if hint := l.run.runner.opt.Sandbox.Hint(line); hint != "" {
		l.run.hint = hint
		fields = append(fields, "hint", hint)
	}
	l.run.runner.opt.Log.Info("script stderr", fields...)
}
