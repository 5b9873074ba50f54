package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/terminal"
)

// exitStatus is what --fail makes of an answer of 400 and more, as curl --fail does.
const exitStatus = 22

// An answer is what comes of a request, on its way to where it is printed.
type answer struct {
	cmd     *cobra.Command
	out     io.Writer
	include bool // print the header, too
	fail    bool // print nothing of an answer of 400 and more
	status  int  // of HTTP; 0 until a header has come
}

// send does the request. It does not wait for a Read of Stdin that blocks,
// since the process ends after it.
func (a *answer) send(ctx context.Context, client *fcgi.Client, req *fcgi.Request) error {
	cutter := &headerCutter{Header: a.header, Body: a}
	req.Stdout, req.Stderr = cutter, a.cmd.ErrOrStderr()
	result, err := client.Do(ctx, req)
	refused := result.ProtocolStatus != fcgi.StatusRequestComplete
	if cutter.isInside() || err == nil && !refused {
		err = errors.Join(err, cutter.finish())
	}
	switch {
	case err != nil:
		return exitError{exitFailure, err.Error()}
	case a.fail && a.status >= http.StatusBadRequest:
		return exitError{exitStatus, "the answer is " + statusText(a.status)}
	case refused:
		return exitError{exitFailure, "protocolStatus " + result.ProtocolStatus.String()}
	case result.AppStatus != 0:
		return exitError{exitFailure, a.failure(result.AppStatus)}
	}
	return nil
}

// failure says with which appStatus the request ended, and of a 502 where the reason is.
func (a *answer) failure(appStatus uint32) string {
	text := "appStatus " + strconv.FormatUint(uint64(appStatus), 10)
	if a.status == http.StatusBadGateway {
		return "502 (" + text + "): the daemon's log says why"
	}
	return text
}

// header takes the header of the answer, or what came instead, which is printed as it is.
func (a *answer) header(block []byte) error {
	h, err := parseHeader(block)
	if err != nil {
		a.cmd.PrintErrf("%s: no CGI header: %v\n", a.cmd.CommandPath(), err)
		_, err = a.out.Write(block)
		return err
	}
	a.status = h.Status
	if a.include {
		return printHeader(a, h, terminal.TakesColours(a.out))
	}
	return nil
}

// Write prints a part of the answer, if it is to be seen.
func (a *answer) Write(p []byte) (int, error) {
	if a.fail && a.status >= http.StatusBadRequest {
		return len(p), nil
	}
	return a.out.Write(p)
}

// printHeader writes the header as a web server would send it: its status line, its
// fields, whose names are bold if that is wanted, and an empty line.
func printHeader(w io.Writer, h cgi.Header, bold bool) error {
	status, fields := statusText(h.Status), ""
	for line := range strings.SplitSeq(string(bytes.TrimSpace(h.Block)), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case strings.EqualFold(name, "Status"):
			if value = strings.TrimSpace(value); len(value) > 3 { // with words of its own
				status = value
			}
		case line == "":
		case bold:
			fields += "\x1b[1m" + name + "\x1b[0m:" + value + "\n"
		default:
			fields += line + "\n"
		}
	}
	_, err := io.WriteString(w, "HTTP/1.1 "+status+"\n"+fields+"\n")
	return err
}

func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}
