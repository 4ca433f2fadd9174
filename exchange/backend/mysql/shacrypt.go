package mysql

import "crypto/sha256"

// shaRounds is what the 005 of $A$005$ stands for: it counts thousands.
const shaRounds = 5000

// shaCrypt is SHA-crypt with SHA-256, as its author published it for Unix passwords: the
// 43 letters of the digest. MySQL takes it with a salt of 20 bytes, where Unix cuts it off
// at 16.
func shaCrypt(password, salt []byte) string {
	b := sha256.Sum256(join(password, salt, password))
	outer := join(password, salt, repeated(b[:], len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 != 0 {
			outer = append(outer, b[:]...)
		} else {
			outer = append(outer, password...)
		}
	}
	digest := sha256.Sum256(outer)

	var of []byte
	for range password {
		of = append(of, password...)
	}
	passwords := sha256.Sum256(of)
	p := repeated(passwords[:], len(password))
	of = nil
	for range 16 + int(digest[0]) {
		of = append(of, salt...)
	}
	salts := sha256.Sum256(of)
	s := repeated(salts[:], len(salt))

	for round := range shaRounds {
		digest = sha256.Sum256(mixed(round, digest[:], p, s))
	}
	return inLetters(digest)
}

// mixed is what one round hashes.
func mixed(round int, digest, p, s []byte) []byte {
	first, last := digest, p
	if round%2 != 0 {
		first, last = p, digest
	}
	var middle []byte
	if round%3 != 0 {
		middle = append(middle, s...)
	}
	if round%7 != 0 {
		middle = append(middle, p...)
	}
	return join(first, middle, last)
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// repeated is a text of that length, over and over.
func repeated(text []byte, length int) []byte {
	var all []byte
	for len(all) < length {
		all = append(all, text[:min(len(text), length-len(all))]...)
	}
	return all
}

const cryptLetters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// inLetters takes three bytes at a time, which stand ten apart, in an order that turns
// with each; the last two are alone.
func inLetters(digest [sha256.Size]byte) string {
	var text []byte
	put := func(bits uint32, letters int) {
		for range letters {
			text = append(text, cryptLetters[bits&0x3f])
			bits >>= 6
		}
	}
	a, b, c := 0, 10, 20
	for range 10 {
		put(uint32(digest[a])<<16|uint32(digest[b])<<8|uint32(digest[c]), 4)
		a, b, c = c+1, a+1, b+1
	}
	put(uint32(digest[31])<<8|uint32(digest[30]), 3)
	return string(text)
}
