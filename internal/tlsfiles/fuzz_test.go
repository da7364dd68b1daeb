package tlsfiles

import "testing"

// FuzzParse: whatever files hold is material that can be used, or an error.
func FuzzParse(f *testing.F) {
	f.Add("", "", "")
	f.Add("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "x", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n")
	f.Fuzz(func(t *testing.T, ca, cert, key string) {
		m, err := parse(Files{CA: "ca.pem", Cert: "cert.pem", Key: "key.pem"}, content{ca: ca, cert: cert, key: key})
		if err == nil && (m.Roots == nil || m.Certificate == nil || m.Certificate.Leaf == nil) {
			t.Fatalf("the material is %+v", m)
		}
	})
}
