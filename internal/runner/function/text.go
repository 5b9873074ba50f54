package function

import (
	"fmt"
	"reflect"
)

// Text is what an error or the value of a panic says, as the Go runtime prints it:
// that of its method Error or String, or the value of a basic type, else the name
// of its type, since what it holds may have no end. It is for a value of a
// function's: a method that panics does no harm.
func Text(value any) (text string) {
	defer func() {
		if recover() == nil {
			return
		}
		if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.IsNil() {
			text = fmt.Sprintf("nil %T", value)
			return
		}
		text = fmt.Sprintf("%T, which panics when it is asked for its text", value)
	}()
	switch v := value.(type) {
	case nil:
		return "nil"
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	}
	return basicText(reflect.ValueOf(value))
}

func basicText(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.String:
		return v.String()
	case v.Kind() == reflect.Bool:
		return fmt.Sprint(v.Bool())
	case v.CanInt():
		return fmt.Sprint(v.Int())
	case v.CanUint():
		return fmt.Sprint(v.Uint())
	case v.CanFloat():
		return fmt.Sprint(v.Float())
	case v.CanComplex():
		return fmt.Sprint(v.Complex())
	}
	return fmt.Sprintf("a value of type %s", v.Type())
}
