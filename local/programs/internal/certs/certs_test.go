package certs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const (
	client = `[{"name": "one", "user": "u", "groups": ["b", "a"]}]`
	other  = `[{"name": "one", "user": "u", "groups": ["c"]}]`
	server = `[{"name": "api", "user": "s", "hosts": ["127.0.0.1", "localhost"]}]`
	moved  = `[{"name": "api", "user": "s", "hosts": ["127.0.0.2", "localhost"]}]`
)

func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestWhatIsStillGoodIsKept(t *testing.T) {
	for name, test := range map[string]struct {
		file, first, second string
		between             func(folder string) error
		kept                bool
	}{
		"asked for again": {file: "one.crt", first: client, second: client, kept: true},
		"other groups":    {file: "one.crt", first: client, second: other},
		"a server again":  {file: "api.crt", first: server, second: server, kept: true},
		"other hosts":     {file: "api.crt", first: server, second: moved},
		"another authority": {
			file: "one.crt", first: client, second: client,
			between: func(folder string) error { return os.Remove(filepath.Join(folder, "ca.key")) },
		},
		"a damaged file": {
			file: "one.crt", first: client, second: client,
			between: func(folder string) error {
				return os.WriteFile(filepath.Join(folder, "one.crt"), []byte("x"), 0o644)
			},
		},
		"the key of service accounts, whatever else is new": {
			file: "service-accounts.key", first: client, second: other, kept: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := Main([]string{folder, test.first}); err != nil {
				t.Fatal(err)
			}
			before := read(t, folder, test.file)
			if test.between != nil {
				if err := test.between(folder); err != nil {
					t.Fatal(err)
				}
			}
			if err := Main([]string{folder, test.second}); err != nil {
				t.Fatal(err)
			}
			if kept := bytes.Equal(before, read(t, folder, test.file)); kept != test.kept {
				t.Errorf("kept: %v, want %v", kept, test.kept)
			}
		})
	}
}

func TestKeysAreForTheOwnerAlone(t *testing.T) {
	folder := t.TempDir()
	if err := Main([]string{folder, client}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.key", "one.key", "service-accounts.key"} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}
