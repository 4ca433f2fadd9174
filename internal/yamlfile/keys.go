package yamlfile

import (
	"reflect"
	"strings"
)

// A Key is a key of a mapping that Decode reads into a struct.
type Key struct {
	Name     string
	Required bool // its absence is a fault
}

// KeysOf returns the keys that Decode knows of a struct of type T, in its order.
func KeysOf[T any]() []Key {
	var keys []Key
	for field := range reflect.TypeFor[T]().Fields() {
		name, option, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			keys = append(keys, Key{name, option == "required"})
		}
	}
	return keys
}
