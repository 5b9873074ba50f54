package server

// A state says how far a request has come, and whether its Runner has it.
// docs/requests.md has the table of what an event means in each.
type state uint8

const (
	stateParams  state = iota // PARAMS come
	stateBody                 // what of STDIN has to be there first comes
	stateWait                 // waits for its turn to run
	stateRun                  // its Runner has it
	stateAnswer               // the rest of its answer is on its way; nothing of it runs
	stateParting              // the same, but its Runner has not returned
	stateLeft                 // END_REQUEST was sent; its Runner has not returned
	stateOver                 // END_REQUEST was sent; nothing of it runs
	states       = int(stateOver) + 1
)

var stateNames = [states]string{"params", "body", "wait", "run", "answer", "parting", "left", "over"}

// String is the state's name in docs/requests.md.
func (s state) String() string { return stateNames[s] }

// listedAs is what the states are called where requests are listed.
var listedAs = [states]string{"params", "body", "queued", "running", "ending", "ending", "ending", "ending"}

// hasRunner reports whether the Runner has the request.
func (s state) hasRunner() bool { return s == stateRun || s == stateParting || s == stateLeft }

// An event is what happens to a request.
type event uint8

const (
	eventParams   event = iota // the last of PARAMS has come
	eventReady                 // all has come that it needs to run
	eventAdmitted              // it is its turn
	eventReturned              // its Runner has returned
	eventAnswered              // its Runner goes on, but has answered
	eventEnd                   // it has to end, for a reason
	eventSent                  // its END_REQUEST has been sent, or nobody can be sent it
	events        = int(eventSent) + 1
)

// never is the cell of an event that means nothing in a state.
const never = state(0xff)

// after says what an event makes of a state.
var after = [states][events]state{
	stateParams:  {stateBody, never, never, never, never, stateAnswer, never},
	stateBody:    {never, stateWait, never, never, never, stateAnswer, never},
	stateWait:    {never, never, stateRun, stateAnswer, never, stateAnswer, never},
	stateRun:     {never, never, never, stateAnswer, stateParting, stateParting, never},
	stateAnswer:  {never, never, never, never, never, stateAnswer, stateOver},
	stateParting: {never, never, never, stateAnswer, never, stateParting, stateLeft},
	stateLeft:    {never, never, never, stateOver, never, stateLeft, never},
	stateOver:    {never, never, never, never, never, stateOver, never},
}

// stepLocked is the one place where the state changes. It returns false, and changes
// nothing, where the event means nothing: two events may come at once, and the one
// that is late finds that all is done.
func (r *request) stepLocked(e event) (from, to state, ok bool) {
	from = state(r.state.Load())
	to = after[from][e]
	if to == never {
		return from, from, false
	}
	r.state.Store(uint32(to))
	return from, to, true
}

// stateNow is the state, for anybody. It may be another one by the time it is looked at.
func (r *request) stateNow() state { return state(r.state.Load()) }

// mayOutlive reports whether the request goes on without its client.
func (r *request) mayOutlive() bool {
	return r.settings.OnAbort != AbortKill && r.startedAt.Load() != 0 && r.stdinOver.has.Load()
}
