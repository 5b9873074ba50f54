package server

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/fcgid/fcgid/internal/protocol"
)

// addParams takes a part of PARAMS; an empty one ends them.
func (r *request) addParams(content []byte) {
	switch limit := r.settings.Limits.Params; {
	case len(content) == 0:
		r.endParams()
	case r.paramsDropped:
	case limit > 0 && int64(r.params.Len()+len(content)) > limit:
		r.dropParams(refuse(431, errors.New("PARAMS are larger than limits.params")))
	default:
		before := r.params.Cap()
		need := max(0, r.params.Len()+len(content)-before)
		if err := r.memory.take(int64(need)); err != nil {
			r.dropParams(overload(fmt.Errorf("PARAMS: %w", err)))
			return
		}
		r.params.Write(content)
		r.memory.charge(int64(r.params.Cap() - before - need))
	}
}

// dropParams takes no more of PARAMS.
func (r *request) dropParams(why *verdict) {
	r.memory.giveBack(int64(r.params.Cap()))
	r.params.Reset()
	r.refusal, r.paramsDropped = why, true
}

// endParams is the event that PARAMS are complete. A request that is not to run has
// its answer now.
func (r *request) endParams() {
	var err error
	if r.req.Params, err = protocol.ParseParams(r.params.String()); err != nil {
		r.server.protocolError(kindParams)
		r.refuseUnless(refuse(400, fmt.Errorf("PARAMS: %w", err)))
	}
	r.holdParams(r.params.Cap())
	r.params.Reset()
	r.wireParams = r.req.Params
	r.req.ID = protocol.Identify(&r.wireParams)
	r.known.Store(&r.wireParams)
	r.isHead = r.req.Params.Get("REQUEST_METHOD") == "HEAD"
	var length uint64
	if text := r.req.Params.Get("CONTENT_LENGTH"); text != "" { // an error of ParseUint costs memory, and most have none
		length, err = strconv.ParseUint(text, 10, 63)
		r.hasLength = err == nil
	}
	if limit := r.settings.Limits.Body; limit > 0 && r.hasLength && int64(length) > limit {
		r.refuseUnless(refuse(413, errBodyTooLarge))
	}
	r.conn.table.step(r, eventParams)
	if r.req.Role == protocol.RoleAuthorizer {
		// An Authorizer has no STDIN, and some servers do not even end it
		// (section 6.3; mod_authnz_fcgi).
		r.closeStdin()
	}
	if r.refusal != nil {
		r.conn.table.end(r, r.refusal)
	}
}

// refuseUnless is why the request is not to run, unless there is a reason already.
func (r *request) refuseUnless(ref *verdict) {
	if r.refusal == nil {
		r.refusal = ref
	}
}

// maxHeldParams is how many times limits.params the parsed PARAMS of a
// connection's requests may take.
const maxHeldParams = 64

// holdParams counts parsed PARAMS against what a connection may hold, and memory. Where
// that is too much they are dropped, and the request is told to come back later.
func (r *request) holdParams(raw int) {
	const pair = 32 // bytes of two strings
	parsed := int64(pair * r.req.Params.Len())
	size := int64(raw) + parsed
	if err := r.memory.take(parsed); err != nil {
		r.memory.giveBack(int64(raw))
		r.refuseUnless(overload(fmt.Errorf("PARAMS: %w", err)))
		r.req.Params = protocol.Params{}
		return
	}
	limit := r.settings.Limits.Params
	if limit > 0 && r.conn.table.paramsHeld.Load()+size > maxHeldParams*limit && r.refusal == nil {
		r.refusal = overload(errors.New("the connection's open requests have too many PARAMS"))
		r.req.Params = protocol.Params{}
		return
	}
	r.paramsSize.Store(size)
	r.conn.table.paramsHeld.Add(size)
}
