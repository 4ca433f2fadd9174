package lease

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/stepkey/stepkey/exchange/backend"
	"github.com/stepkey/stepkey/internal/secret"
)

// Keys seal what is needed to revoke a credential, each value bound to its lease:
// a sealed value moved to another row does not open. AES-256-GCM by Tink, whose
// keyset holds the key that seals and those before it, which only open.
type Keys struct {
	box    tink.AEAD
	newest uint32 // the id of the key that seals
}

// keysKept is how many keys a keyset holds: the one that seals, and those before it for
// what no process has sealed anew yet; see Store.Reseal. A lease of a database can be live
// for as long as its server is away, so no count of days would do.
const keysKept = 8

// ReadKeys reads the key file. A file that others can read is refused, as ssh does.
func ReadKeys(path string) (*Keys, error) {
	handle, err := readKeyset(path)
	if err != nil {
		return nil, err
	}
	box, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("reading keys from %s: %w", path, err)
	}
	newest, err := handle.Primary()
	if err != nil {
		return nil, fmt.Errorf("reading keys from %s: %w", path, err)
	}
	return &Keys{box, newest.KeyID()}, nil
}

// CreateKeys writes a new key file with one key. An existing file is left alone and
// is an error that wraps fs.ErrExist: with its keys gone, live leases cannot be revoked.
func CreateKeys(path string) error {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	text, err := encodeKeyset(handle)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("creating the key file: %w", err)
	}
	if err := writeSynced(file, text); err != nil {
		return errors.Join(fmt.Errorf("writing the key file: %w", err), os.Remove(path))
	}
	return nil
}

// RotateKeys makes a new key seal from now on. Those before it still open what they sealed,
// the last seven of them. The file is replaced as a whole, never half written, and stays its
// owner's, also where root rotates.
func RotateKeys(path string) error {
	handle, err := readKeyset(path)
	if err != nil {
		return err
	}
	if handle, err = rotated(handle); err != nil {
		return fmt.Errorf("rotating keys: %w", err)
	}
	text, err := encodeKeyset(handle)
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(path), ".keys-*")
	if err != nil {
		return fmt.Errorf("rotating keys: %w", err)
	}
	if err := errors.Join(keepOwner(path, next), writeSynced(next, text)); err != nil {
		return errors.Join(fmt.Errorf("writing the new key file: %w", err), os.Remove(next.Name()))
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return fmt.Errorf("replacing the key file: %w", err)
	}
	return nil
}

func (k *Keys) seal(id backend.LeaseID, value secret.String) ([]byte, error) {
	sealed, err := k.box.Encrypt([]byte(value.Reveal()), boundTo(id))
	if err != nil {
		return nil, fmt.Errorf("sealing the handle of %s: %w", id, err)
	}
	return sealed, nil
}

// open returns an empty secret for a lease that has nothing sealed.
func (k *Keys) open(id backend.LeaseID, sealed []byte) (secret.String, error) {
	if len(sealed) == 0 {
		return secret.String{}, nil
	}
	value, err := k.box.Decrypt(sealed, boundTo(id))
	if err != nil {
		return secret.String{}, fmt.Errorf("opening the handle of %s: no key of the key file opens it: %w", id, err)
	}
	return secret.New(string(value)), nil
}

func boundTo(id backend.LeaseID) []byte { return []byte("stepkey/handle/v1/" + string(id)) }

func rotated(handle *keyset.Handle) (*keyset.Handle, error) {
	manager := keyset.NewManagerFromHandle(handle)
	newest, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	if err := manager.SetPrimary(newest); err != nil {
		return nil, err
	}
	for oldest := range handle.Len() + 1 - keysKept { // they stand in the order in which they were made
		entry, err := handle.Entry(oldest)
		if err != nil {
			return nil, err
		}
		if err := manager.Delete(entry.KeyID()); err != nil {
			return nil, err
		}
	}
	return manager.Handle()
}

// keepOwner gives next to whom path belongs.
func keepOwner(path string, next *os.File) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known || int(owner.Uid) == os.Geteuid() {
		return nil
	}
	return next.Chown(int(owner.Uid), int(owner.Gid))
}

func readKeyset(path string) (*keyset.Handle, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no key file %s; make one with: stepkey-exchange keys create %s", path, path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the key file %s can be read by others (mode %o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, fmt.Errorf("reading keys: %s is no key file of this service", path) // not err: it may quote the file
	}
	return handle, nil
}

func encodeKeyset(handle *keyset.Handle) ([]byte, error) {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, fmt.Errorf("writing keys: %w", err)
	}
	return text.Bytes(), nil
}

func writeSynced(file *os.File, text []byte) error {
	_, err := file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}
