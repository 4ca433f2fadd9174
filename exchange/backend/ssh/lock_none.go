//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd

package ssh

import (
	"errors"
	"os"
)

func tryLock(*os.File) (bool, error) {
	return false, errors.New("this system has no lock that ends with its process; serve the list and let hosts fetch it, without krl in the configuration")
}
