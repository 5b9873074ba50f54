package server

// tlsPiece is how much is given at once to a connection on which a write that has
// met its deadline cannot go on: the most that a record of TLS holds (RFC 8446,
// section 5.1).
const tlsPiece = 16 << 10

// piece is how much of n bytes is written before there is a new deadline. On a
// plain socket that is all, since what a client took before the deadline counts.
func (c *conn) piece(n int) int {
	if c.under == nil {
		return n
	}
	return min(n, tlsPiece)
}

// sayLast tells the client that nothing follows. With TLS that is a message,
// for which the client may have to make room: it is not waited for here.
func (c *conn) sayLast(tell func() error) {
	if c.under == nil {
		tell()
		return
	}
	c.wg.Go(func() { tell() })
}

// cut closes the connection without a word to the client, and without waiting.
func (c *conn) cut() {
	if c.under != nil {
		c.under.Close()
		return
	}
	c.nc.Close()
}
