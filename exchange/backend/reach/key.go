package reach

import (
	"fmt"
	"io"
	"os"
)

const maxKey = 64 << 10 // bytes of a file

// SigningKey reads the file of a private key that signs for the exchange, in whatever form
// it is. A file that others can read is refused, as ssh does; whatFor, such as "every
// host", says in the error what they could sign for.
func SigningKey(path, whatFor string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the signing key: %w", err)
	}
	defer func() { _ = file.Close() }()
	about, err := file.Stat() // of what was opened, whatever the name means by now
	if err != nil {
		return nil, fmt.Errorf("looking at the signing key: %w", err)
	}
	if about.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("its mode is %04o, so that others can read what signs for %s; chmod 600 it", about.Mode().Perm(), whatFor)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKey+1))
	if err != nil {
		return nil, fmt.Errorf("reading the signing key: %w", err)
	}
	if len(text) > maxKey {
		return nil, fmt.Errorf("it has more than %d bytes, so it is no signing key; name the file with the private key alone", maxKey)
	}
	return text, nil
}
