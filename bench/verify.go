package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// verifyTime is how long one answer may take when it is checked.
const verifyTime = 20 * time.Second

// verify sends one request, checks its status and its body, and returns the
// length of the answer, over FastCGI with its header, over HTTP without: under load each
// answer of the same server is to have this length.
func verify(network, address string, r *request) (int64, error) {
	c, err := net.DialTimeout(network, address, verifyTime)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return ask(c, r)
}

// ask sends one request on a connection and checks the answer.
func ask(c net.Conn, r *request) (int64, error) {
	if err := c.SetDeadline(time.Now().Add(verifyTime)); err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() { sent <- sendWhole(c, r) }()
	got, err := receive(c, r)
	if err != nil {
		c.Close() // ends a send that nobody reads
		return 0, errors.Join(err, <-sent)
	}
	if err := <-sent; err != nil {
		return 0, fmt.Errorf("send request: %w", err)
	}
	return got, nil
}

func sendWhole(c net.Conn, r *request) error {
	_, err := c.Write(r.heads[0])
	for i := 0; i < r.blocks && err == nil; i++ {
		_, err = c.Write(r.block)
	}
	if err == nil && r.tail != nil {
		_, err = c.Write(r.tail)
	}
	return err
}

// receive reads one answer and checks it.
func receive(c net.Conn, r *request) (int64, error) {
	if r.http {
		return receiveHTTP(c, r)
	}
	whole := &collector{}
	var a answers
	buffer := make([]byte, 16<<10)
	for !whole.done {
		n, err := c.Read(buffer)
		if feedErr := a.feed(buffer[:n], whole); feedErr != nil {
			return 0, feedErr
		}
		if err != nil && !whole.done {
			return 0, fmt.Errorf("read answer: %w (it begins with %.200q)", err, whole.begin.Bytes())
		}
	}
	return whole.total, whole.check(r)
}

// A collector takes an answer whole, of which it keeps the beginning.
type collector struct {
	begin bytes.Buffer
	total int64
	done  bool
}

func (c *collector) stdout(_ int, p []byte) error {
	c.total += int64(len(p))
	c.begin.Write(p[:min(len(p), max(0, 4096-c.begin.Len()))])
	return nil
}

func (c *collector) ended(int) error {
	c.done = true
	return nil
}

// check compares status and body with what they are to be.
func (c *collector) check(r *request) error {
	reader := bufio.NewReader(bytes.NewReader(c.begin.Bytes()))
	headLen := 0
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return fmt.Errorf("answer has no header: %.200q", c.begin.Bytes())
		}
		headLen += len(line)
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Status") && !strings.HasPrefix(strings.TrimSpace(value), "200") {
			return fmt.Errorf("answer has status%s: %.200q", value, c.begin.Bytes())
		}
	}
	if r.want != "" {
		if body := c.begin.String()[headLen:]; body != r.want || c.total != int64(headLen+len(r.want)) {
			return fmt.Errorf("answer has the body %.200q, not %q", body, r.want)
		}
	} else if n := c.total - int64(headLen); n != r.wantBytes {
		return fmt.Errorf("answer has %d bytes, not %d", n, r.wantBytes)
	}
	return nil
}

// receiveHTTP is receive for an answer over HTTP, after which the connection is kept.
func receiveHTTP(c net.Conn, r *request) (int64, error) {
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return 0, err
	case res.StatusCode != 200 || r.has == "" && string(body) != r.want:
		return 0, fmt.Errorf("answer has status %d and the body %.200q", res.StatusCode, body)
	case !bytes.Contains(body, []byte(r.has)):
		return 0, fmt.Errorf("answer has not %q in it: %.200q", r.has, body)
	case res.Close:
		return 0, errors.New("the server closes the connection")
	}
	return int64(len(body)), nil
}
