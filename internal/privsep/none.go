package privsep

import (
	"errors"
	"fmt"

	"github.com/fcgid/fcgid/internal/config"
)

// noPrograms starts nothing.
type noPrograms struct{}

func newPrograms(*spawner) programs { return noPrograms{} }

func (noPrograms) Prepare(_ uint64, pools []config.Pool) (commit, undo func(), err error) {
	if len(pools) > 0 {
		return nil, nil, fmt.Errorf("pool %s: with user, pools of functions alone can be served", pools[0].Name)
	}
	return func() {}, func() {}, nil
}

func (noPrograms) Handle(*Message) (*Message, error) { return nil, errors.New("no programs") }
func (noPrograms) Kill()                             {}
func (noPrograms) Wait()                             {}
