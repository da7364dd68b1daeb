package tlsfiles

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	pemBegin       = "-----BEGIN"
	pemEnd         = "-----END"
	pemCertificate = "CERTIFICATE"
)

// certificates reads all certificates of a PEM file. The readers of the standard
// library pass over what they cannot read, so that half of a file would do for
// the whole. Text between the blocks is allowed: bundles have comments.
func certificates(data string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	err := eachBlock(data, func(line int, b *pem.Block) error {
		if b.Type != pemCertificate {
			return nil
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("the certificate that begins on line %d cannot be read; write the file anew, or take that certificate out: %w", line, err)
		}
		out = append(out, c)
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.New("there is no certificate in PEM form")
	}
	return out, err
}

// eachBlock calls do for the blocks of a PEM file, and errs if something in it
// begins like a block or ends like one and is none.
func eachBlock(data string, do func(line int, b *pem.Block) error) error {
	begun, start, at, number := 0, 0, 0, 0 // begun is the line of the open block, 0 for none
	last := ""
	for line := range strings.Lines(data) {
		number++
		last = strings.TrimLeft(line, " \t\ufeff")
		switch {
		case strings.HasPrefix(last, pemBegin) && begun != 0:
			return cutBlock(begun)
		case strings.HasPrefix(last, pemBegin):
			begun, start = number, at
		case strings.HasPrefix(last, pemEnd):
			b, rest := pem.Decode([]byte(data[start : at+len(line)]))
			if begun == 0 || b == nil || len(rest) > 0 {
				return cutBlock(max(begun, 1))
			}
			if err := do(begun, b); err != nil {
				return err
			}
			begun = 0
		}
		at += len(line)
	}
	if begun == 0 && last != "" && strings.HasPrefix(pemBegin, last) {
		begun = number // cut in the word BEGIN
	}
	if begun != 0 {
		return cutBlock(begun)
	}
	return nil
}

func cutBlock(line int) error {
	return fmt.Errorf("the PEM block that begins on line %d is not complete, or is not PEM; write the file anew", line)
}
