package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A Record is one record of the wire without its padding (section 3.3).
type Record struct {
	Type Type
	ID   uint16
	// Content is valid until the next call of the Reader that returned it.
	Content []byte
}

// IsManagement reports whether the record belongs to no request (section 3.3).
func (r Record) IsManagement() bool { return r.ID == 0 }

// A VersionError is the version byte of a peer that does not speak FastCGI 1.0.
// Nothing after it can be understood.
type VersionError byte

// Error names the version.
func (e VersionError) Error() string {
	return fmt.Sprintf("record has version %d, not %d", byte(e), Version)
}

// ErrBodyLength tells that the content of a BEGIN_REQUEST, END_REQUEST or
// UNKNOWN_TYPE record has not the eight bytes of its format (sections 4.2, 5.1, 5.5).
var ErrBodyLength = errors.New("content is not 8 bytes long")

const (
	smallBuffer = 4 << 10
	largeBuffer = 128 << 10
)

// Buffers that nobody needs at the moment. A connection that is kept gives its own up between
// requests: to make a large one anew costs more than all else of a request.
var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// A Reader divides a byte stream into records. It reads as much as there is, so
// nobody else may read from the stream. A failed read may be tried again: what
// had arrived of a record is kept.
type Reader struct {
	src        io.Reader
	lender     Lender // src, or nil
	lent       bool   // buf is the lender's
	buf        []byte
	start, end int    // buf[start:end] is read and not yet returned
	part       Record // that NextPart has returned a part of; its Content is nil
	left       int    // content of part that is still to come
	padding    int    // what is to be skipped after it
}

// A Lender is a stream that has buffers, so that to wait for the first byte of a
// record takes none.
type Lender interface {
	io.Reader
	// Lend is Read to a buffer that is the caller's until GiveBack. Without a
	// byte there is no buffer.
	Lend() (buf []byte, n int, err error)
	GiveBack(buf []byte)
}

// NewReader returns a Reader of src, which may be a Lender. Its buffer grows with
// the records that come.
func NewReader(src io.Reader) *Reader {
	lender, _ := src.(Lender)
	return &Reader{src: src, lender: lender}
}

// Next returns the next record. It returns io.EOF only between two records,
// io.ErrUnexpectedEOF inside one, a VersionError as soon as the version byte
// is wrong, and else the error of the stream.
func (r *Reader) Next() (Record, error) { return r.NextPart(0) }

// NextPart is Next for somebody who can move content to where it belongs without
// a look at it. Unless large is 0, it reads no further than a header: of a STDIN
// record with at least large bytes of content it returns the part that is
// buffered, which may be empty, and Left tells how much is still in the stream. That
// may be taken from there (Took); what is not is the content that the next call
// of Next or NextPart returns, in a record of the same id.
func (r *Reader) NextPart(large int) (Record, error) {
	most := 0
	if large > 0 {
		most = HeaderLen
	}
	if r.left > 0 {
		return r.remainder()
	}
	if err := r.skipPadding(most); err != nil {
		return Record{}, err
	}
	if err := r.fill(1, most); err != nil {
		return Record{}, err
	}
	if v := r.buf[r.start]; v != Version {
		return Record{}, VersionError(v)
	}
	if err := r.fill(HeaderLen, most); err != nil {
		return Record{}, err
	}
	h := r.buf[r.start : r.start+HeaderLen]
	length, padding := int(binary.BigEndian.Uint16(h[4:])), int(h[6])
	rec := Record{Type: Type(h[1]), ID: binary.BigEndian.Uint16(h[2:])}
	if large > 0 && length >= large && rec.Type == TypeStdin {
		r.start += HeaderLen
		r.part, r.left, r.padding = rec, length, padding
		rec.Content = r.take(min(length, r.Buffered()))
		return rec, nil
	}
	if err := r.fill(HeaderLen+length+padding, 0); err != nil {
		return Record{}, err
	}
	content := r.start + HeaderLen
	rec.Content = r.buf[content : content+length : content+length]
	r.start += HeaderLen + length + padding
	return rec, nil
}

// remainder returns what is left of a record.
func (r *Reader) remainder() (Record, error) {
	if err := r.fill(r.left+r.padding, 0); err != nil {
		return Record{}, unexpected(err)
	}
	rec := r.part
	rec.Content = r.take(r.left)
	return rec, r.skipPadding(0) // it is buffered
}

// take returns the next n bytes of content, which are buffered.
func (r *Reader) take(n int) []byte {
	content := r.buf[r.start : r.start+n : r.start+n]
	r.start += n
	r.left -= n
	return content
}

// skipPadding passes over what follows the content of a record.
func (r *Reader) skipPadding(most int) error {
	if r.padding == 0 {
		return nil
	}
	if most > 0 {
		most += r.padding
	}
	if err := r.fill(r.padding, most); err != nil {
		return unexpected(err)
	}
	r.start += r.padding
	r.padding = 0
	return nil
}

// unexpected is an error inside a record.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Left is how much content is in the stream of the record that NextPart has
// returned last. None of it is buffered.
func (r *Reader) Left() int { return r.left }

// Took tells that n bytes of what is Left were taken from the stream.
func (r *Reader) Took(n int) { r.left -= n }

// Buffered is the number of bytes that were read and not yet returned.
func (r *Reader) Buffered() int { return r.end - r.start }

// EndsNext reports whether END_REQUEST is what has been read and not yet returned,
// but for the empty records that end streams before it.
func (r *Reader) EndsNext() bool {
	for b := r.buf[r.start:r.end]; len(b) >= HeaderLen; b = b[HeaderLen:] {
		switch {
		case Type(b[1]) == TypeEndRequest:
			return true
		case b[4] != 0 || b[5] != 0 || b[6] != 0: // length, padding
			return false
		}
	}
	return false
}

// Pending reports whether a record has begun to come and is not complete, or not
// returned.
func (r *Reader) Pending() bool { return r.end > r.start || r.left > 0 || r.padding > 0 }

// Rest returns a Reader that goes on where r is, so that the last record of r may
// be used meanwhile. Of r nothing else may be used any more.
func (r *Reader) Rest() *Reader {
	rest := *r
	rest.buf = bytes.Clone(r.buf[r.start:r.end])
	rest.lent, rest.start, rest.end = false, 0, len(rest.buf)
	return &rest
}

// Release gives up the buffer if it is empty, so that a connection without a
// request costs little. The content of the last record is no longer valid.
func (r *Reader) Release() {
	if r.start == r.end {
		r.replace(nil)
		r.start, r.end = 0, 0
	}
}

// replace takes another buffer.
func (r *Reader) replace(buf []byte) {
	switch {
	case r.lent:
		r.lender.GiveBack(r.buf)
	case len(r.buf) == smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(r.buf))
	case len(r.buf) == largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(r.buf))
	}
	r.buf, r.lent = buf, false
}

// Size is how much memory the buffer has, unless it is the stream's.
func (r *Reader) Size() int {
	if r.lent {
		return 0
	}
	return len(r.buf)
}

// Trim gives up the buffer if it is empty and has grown, so that a connection
// which will be used again holds little meanwhile. The content of the last record
// is no longer valid.
func (r *Reader) Trim() {
	if len(r.buf) > smallBuffer {
		r.Release()
	}
}

// fill reads until n bytes are buffered, and at once as much more as there is,
// but unless most is 0, or it has no buffer yet, never more than most bytes in all.
func (r *Reader) fill(n, most int) error {
	for r.end-r.start < n {
		k, err := r.read(n, most)
		r.end += k
		if err != nil && r.end-r.start < n {
			if err == io.EOF && r.end > r.start {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (r *Reader) read(n, most int) (k int, err error) {
	if r.buf == nil && r.lender != nil {
		r.buf, k, err = r.lender.Lend()
		r.lent = r.buf != nil
		return k, err
	}
	r.makeRoom(n)
	room := r.buf[r.end:]
	if most > 0 {
		room = room[:min(len(room), most-(r.end-r.start))]
	}
	return r.src.Read(room)
}

// makeRoom moves what is buffered to the front and sees that n bytes fit. A
// record over the small buffer is a stream's: the next ones will be like it.
func (r *Reader) makeRoom(n int) {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.start+n <= len(r.buf) && r.end < len(r.buf) {
		return
	}
	dst := r.buf
	switch {
	case n <= len(dst):
	case n <= smallBuffer:
		dst = smallBuffers.Get().(*[smallBuffer]byte)[:]
	default:
		dst = largeBuffers.Get().(*[largeBuffer]byte)[:]
	}
	r.end = copy(dst, r.buf[r.start:r.end])
	r.start = 0
	if n > len(r.buf) {
		r.replace(dst)
	}
}

// PaddingFor is the padding that AppendRecord gives to a record with n bytes of
// content: up to a multiple of 8 (section 3.3 recommends it), and at least one
// byte for STDERR, since HAProxy up to 2.6 falls over an unpadded one.
func PaddingFor(t Type, n int) int {
	pad := -n & 7
	if t == TypeStderr && pad == 0 {
		pad = 8
	}
	return min(pad, maxContentLength-n)
}

// AppendHeader appends the header of a record (section 3.3). It panics when
// length or padding cannot be written down in it.
func AppendHeader(dst []byte, t Type, id uint16, length, padding int) []byte {
	if length < 0 || length > maxContentLength || padding < 0 || padding > maxPaddingLength {
		panic(fmt.Sprintf("protocol: header with length %d and padding %d", length, padding))
	}
	return append(dst, Version, byte(t), byte(id>>8), byte(id), byte(length>>8), byte(length), byte(padding), 0)
}

// AppendRecord appends one record with PaddingFor zero bytes of padding. The
// content is at most 65,535 bytes; for a stream of any length there is StreamWriter.
func AppendRecord(dst []byte, t Type, id uint16, content []byte) []byte {
	pad := PaddingFor(t, len(content))
	dst = AppendHeader(dst, t, id, len(content), pad)
	dst = append(dst, content...)
	return append(dst, zeros[:pad]...)
}

var zeros [maxPaddingLength]byte

// Begin is the content of a BEGIN_REQUEST record (section 5.1).
type Begin struct {
	Role Role
	// Keep is FCGI_KEEP_CONN: the client, not the application, closes the connection.
	Keep bool
}

const flagKeepConn = 1

// ParseBegin reads the content of a BEGIN_REQUEST record. Flags that the
// specification does not define are ignored.
func ParseBegin(content []byte) (Begin, error) {
	if len(content) != 8 {
		return Begin{}, fmt.Errorf("BEGIN_REQUEST: %w", ErrBodyLength)
	}
	return Begin{Role(binary.BigEndian.Uint16(content)), content[2]&flagKeepConn != 0}, nil
}

// AppendBegin appends a BEGIN_REQUEST record, unpadded: libfcgi loses its place otherwise.
func AppendBegin(dst []byte, id uint16, b Begin) []byte {
	var flags byte
	if b.Keep {
		flags = flagKeepConn
	}
	return AppendRecord(dst, TypeBeginRequest, id, []byte{byte(b.Role >> 8), byte(b.Role), flags, 0, 0, 0, 0, 0})
}

// End is the content of an END_REQUEST record (section 5.5).
type End struct {
	// AppStatus is a CGI program's exit status.
	AppStatus uint32
	Status    Status
}

// ParseEnd reads the content of an END_REQUEST record.
func ParseEnd(content []byte) (End, error) {
	if len(content) != 8 {
		return End{}, fmt.Errorf("END_REQUEST: %w", ErrBodyLength)
	}
	return End{binary.BigEndian.Uint32(content), Status(content[4])}, nil
}

// AppendEnd appends an END_REQUEST record.
func AppendEnd(dst []byte, id uint16, e End) []byte {
	dst = AppendHeader(dst, TypeEndRequest, id, 8, 0)
	dst = binary.BigEndian.AppendUint32(dst, e.AppStatus)
	return append(dst, byte(e.Status), 0, 0, 0)
}

// AppendUnknownType appends the answer to a management record of type t that
// is not understood (section 4.2).
func AppendUnknownType(dst []byte, t Type) []byte {
	return AppendRecord(dst, TypeUnknownType, 0, []byte{byte(t), 0, 0, 0, 0, 0, 0, 0})
}
