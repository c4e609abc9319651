// Package certs makes the certificates by which the programs of the local
// cluster know each other. It keeps what is still good, so that a kubeconfig
// handed out yesterday works today.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	lifetime = 10 * 365 * 24 * time.Hour
	// renewBefore is long enough that no certificate ends under a running cluster.
	renewBefore = 90 * 24 * time.Hour
	// backdate forgives a clock that was set back.
	backdate = time.Hour
)

// request names one certificate to have: a server's if it has hosts, else a client's.
type request struct {
	Name   string   `json:"name"`
	User   string   `json:"user"`
	Groups []string `json:"groups"`
	Hosts  []string `json:"hosts"`
}

type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// Main takes a folder and a JSON list of requests, and fills the folder with
// ca.crt, service-accounts.key, and NAME.crt and NAME.key of each request.
func Main(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: make-certificates FOLDER REQUESTS-JSON")
	}
	folder := args[0]
	var requests []request
	if err := json.Unmarshal([]byte(args[1]), &requests); err != nil {
		return fmt.Errorf("read the requests: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	ca, err := ensureAuthority(folder)
	if err != nil {
		return err
	}
	if err := ensureServiceAccountKey(folder); err != nil {
		return err
	}
	for _, wanted := range requests {
		if err := ensure(folder, ca, wanted); err != nil {
			return fmt.Errorf("certificate %s: %w", wanted.Name, err)
		}
	}
	return nil
}

func ensureAuthority(folder string) (*authority, error) {
	certPath, keyPath := filepath.Join(folder, "ca.crt"), filepath.Join(folder, "ca.key")
	if ca, err := load(certPath, keyPath); err == nil && fresh(ca.certificate) {
		return ca, nil
	}
	template, err := newTemplate(pkix.Name{CommonName: "trimtab-local"})
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if err := issue(template, nil, certPath, keyPath); err != nil {
		return nil, err
	}
	return load(certPath, keyPath)
}

func ensureServiceAccountKey(folder string) error {
	path := filepath.Join(folder, "service-accounts.key")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	// The API server reads the public half from the same file, and only in this form.
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der, 0o600)
}

func ensure(folder string, ca *authority, wanted request) error {
	certPath := filepath.Join(folder, wanted.Name+".crt")
	keyPath := filepath.Join(folder, wanted.Name+".key")
	if have, err := load(certPath, keyPath); err == nil && serves(have.certificate, ca, wanted) {
		return nil
	}
	template, err := newTemplate(pkix.Name{CommonName: wanted.User, Organization: wanted.Groups})
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(wanted.Hosts) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, host := range wanted.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return issue(template, ca, certPath, keyPath)
}

// serves says whether a certificate on disk is what a new one would be.
func serves(have *x509.Certificate, ca *authority, wanted request) bool {
	hosts := slices.Clone(have.DNSNames)
	for _, ip := range have.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	slices.Sort(hosts)
	groups := slices.Sorted(slices.Values(wanted.Groups))
	return fresh(have) &&
		have.CheckSignatureFrom(ca.certificate) == nil &&
		have.Subject.CommonName == wanted.User &&
		slices.Equal(slices.Sorted(slices.Values(have.Subject.Organization)), groups) &&
		slices.Equal(hosts, slices.Sorted(slices.Values(wanted.Hosts)))
}

func fresh(certificate *x509.Certificate) bool {
	return time.Until(certificate.NotAfter) > renewBefore
}

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-backdate),
		NotAfter:     time.Now().Add(lifetime),
	}, nil
}

// issue signs by the authority, or by the new key itself where there is none.
func issue(template *x509.Certificate, ca *authority, certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if ca == nil {
		ca = &authority{certificate: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return err
	}
	if err := writeKey(keyPath, key); err != nil {
		return err
	}
	return writePEM(certPath, "CERTIFICATE", der, 0o644)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}

// writePEM renames into place: a crash leaves the old file or the new one.
func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	staged := path + ".new"
	body := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(staged, body, mode); err != nil {
		return err
	}
	return os.Rename(staged, path)
}

func load(certPath, keyPath string) (*authority, error) {
	certDER, err := readPEM(certPath)
	if err != nil {
		return nil, err
	}
	keyDER, err := readPEM(keyPath)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", keyPath, certPath)
	}
	return &authority{certificate: certificate, key: key}, nil
}

func readPEM(path string) ([]byte, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(body)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block.Bytes, nil
}
