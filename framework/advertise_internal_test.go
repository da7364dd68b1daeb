package framework

import (
	"maps"
	"strings"
	"testing"
)

func TestAdvertised(t *testing.T) {
	const all, loop = "[::]", "127.0.0.1"
	remote, here := []string{"http://etcd-0.example:2379"}, []string{"http://127.0.0.1:2379", "localhost:2379"}
	for _, tc := range []struct {
		name        string
		grpc, admin string // hosts, "" for none
		advertise   string
		endpoints   []string
		want        map[string]string
		err         string
	}{
		{"everything here", loop, all, "", here, map[string]string{"grpc": loop + ":1", "admin": loop + ":2"}, ""},
		{"everything here, as is said", loop, loop, loop, remote, map[string]string{"grpc": loop + ":1", "admin": loop + ":2"}, ""},
		{"a registry that was given", loop, loop, "", nil, map[string]string{"grpc": loop + ":1", "admin": loop + ":2"}, ""},
		{"the host that is said", all, all, "10.0.0.5", remote, map[string]string{"grpc": "10.0.0.5:1", "admin": "10.0.0.5:2"}, ""},
		{"of the sixth version", all, all, "2001:db8::7", remote, map[string]string{"grpc": "[2001:db8::7]:1", "admin": "[2001:db8::7]:2"}, ""},
		{"admin for this machine", all, loop, "10.0.0.5", remote, map[string]string{"grpc": "10.0.0.5:1"}, ""},
		{"admin for this machine, nothing said", "10.0.0.5", loop, "", remote, map[string]string{"grpc": "10.0.0.5:1"}, ""},
		{"admin alone", "", loop, "", remote, map[string]string{"admin": loop + ":2"}, ""},
		{"something leads to loopback", loop, loop, "10.0.0.5", remote, map[string]string{"grpc": "10.0.0.5:1"}, ""},
		{"calls for this machine", loop, "10.0.0.5", "", remote, nil, "advertise 127.0.0.1:1: it is on loopback"},
		{"of the sixth version for this machine", "[::1]", loop, "", remote, nil, "set server.grpc.addr"},
	} {
		bound := map[string]string{}
		if tc.grpc != "" {
			bound["grpc"] = tc.grpc + ":1"
		}
		if tc.admin != "" {
			bound["admin"] = tc.admin + ":2"
		}
		got, err := advertised(bound, tc.advertise, tc.endpoints)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) || exitCode(err) != exitUsage {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
			}
			continue
		}
		if err != nil || !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v, want %v", tc.name, got, err, tc.want)
		}
	}
}
