package cli

import (
	"io"

	"github.com/fcgid/fcgid/internal/cgi"
)

// A headerCutter takes a CGI response and gives away its header block and its
// body as they come.
type headerCutter struct {
	// Header is called once, before anything goes to Body: with the block and
	// the blank line that ends it, or, if there is none in the first 64 KiB or
	// at all, with what came instead.
	Header func(block []byte) error
	Body   io.Writer

	buf      []byte
	searched int  // buf[:searched] holds no blank line
	past     bool // Header was called
}

// Write takes a piece of the response.
func (c *headerCutter) Write(p []byte) (int, error) {
	if c.past {
		return c.Body.Write(p)
	}
	c.buf = append(c.buf, p...)
	end, next := cgi.HeaderEnd(c.buf, c.searched)
	c.searched = next
	if end == 0 && len(c.buf) <= cgi.MaxHeader {
		return len(p), nil
	}
	if end == 0 || end > cgi.MaxHeader {
		end = len(c.buf)
	}
	rest := c.buf[end:]
	if err := c.pass(c.buf[:end]); err != nil || len(rest) == 0 {
		return len(p), err
	}
	_, err := c.Body.Write(rest)
	return len(p), err
}

// isInside tells whether a header has begun that has not ended.
func (c *headerCutter) isInside() bool { return len(c.buf) > 0 }

// finish gives what there is of a header that has not ended.
func (c *headerCutter) finish() error {
	if c.past {
		return nil
	}
	return c.pass(c.buf)
}

func (c *headerCutter) pass(block []byte) error {
	c.past, c.buf = true, nil
	return c.Header(block)
}

// parseHeader is cgi.ParseHeader of what a headerCutter gives, which may be what
// came instead of a header.
func parseHeader(block []byte) (cgi.Header, error) {
	switch end, _ := cgi.HeaderEnd(block, 0); {
	case end > 0:
		return cgi.ParseHeader(block)
	case len(block) > cgi.MaxHeader:
		return cgi.Header{}, cgi.HeaderError(cgi.ErrHeaderTooLarge, block)
	}
	return cgi.Header{}, cgi.HeaderError(cgi.Unfinished(block), block)
}
