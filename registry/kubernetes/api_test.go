package kubernetes

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/rest"

	"plinth.internal/registry"
)

// exchange is one request that the API server of a test expects, and its answer.
type exchange struct {
	// version is the resource version of a watch; empty for a list.
	version string
	status  int // 0: 200
	// file is the answer; empty for none.
	file string
	// hold keeps the answer open, as a watch is, until the client goes away.
	hold bool
}

// The answers are in testdata. They have the form that the API's documentation
// gives them, field by field, and were not taken from a cluster.

// apiServer answers requests for the slices of shop/orders by a script. After
// its end, everything is answered with 500.
type apiServer struct {
	t      *testing.T
	script []exchange
	server *httptest.Server

	mu   sync.Mutex
	next int
	log  []string
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	i := s.next
	s.next++
	query := r.URL.Query()
	s.log = append(s.log, fmt.Sprintf("%s watch=%s version=%s", r.Method, query.Get("watch"), query.Get("resourceVersion")))
	s.mu.Unlock()
	if i >= len(s.script) {
		http.Error(w, "the script has ended", http.StatusInternalServerError)
		return
	}
	step := s.script[i]
	s.check(r, step, query)
	w.Header().Set("Content-Type", "application/json")
	if step.status != 0 {
		w.WriteHeader(step.status)
	}
	if step.file != "" {
		s.send(w, step.file)
	}
	if step.hold {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func (s *apiServer) check(r *http.Request, step exchange, query url.Values) {
	if want := "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"; r.Method != http.MethodGet || r.URL.Path != want {
		s.t.Errorf("%s %s, want GET %s", r.Method, r.URL.Path, want)
	}
	want := map[string]string{"labelSelector": "kubernetes.io/service-name=orders", "resourceVersion": step.version}
	if step.version != "" {
		want["watch"], want["allowWatchBookmarks"] = "true", "true"
		if d, err := time.ParseDuration(query.Get("timeoutSeconds") + "s"); err != nil || d < watchFor/2 || d > watchFor*3/2 {
			s.t.Errorf("a watch of %q seconds, want about %v", query.Get("timeoutSeconds"), watchFor)
		}
	}
	for key, value := range want {
		if got := query.Get(key); got != value {
			s.t.Errorf("%s: %s is %q, want %q", r.URL, key, got, value)
		}
	}
	if step.version == "" && query.Get("watch") != "" {
		s.t.Errorf("%s: want a list", r.URL)
	}
}

// send writes a file line by line, as the API server sends events.
func (s *apiServer) send(w http.ResponseWriter, name string) {
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		s.t.Error(err)
		return
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fmt.Fprintln(w, lines.Text())
		if strings.HasSuffix(name, ".jsonl") {
			w.(http.Flusher).Flush()
		}
	}
	if lines.Err() != nil {
		s.t.Error(lines.Err())
	}
}

func (s *apiServer) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

// clientset is as much of one as Open needs.
type clientset struct {
	*discoveryclient.DiscoveryV1Client
}

func (c clientset) DiscoveryV1() discoveryclient.DiscoveryV1Interface { return c }

// serve starts an API server with the script, and returns a registry on it.
func serve(t *testing.T, script ...exchange) (*apiServer, *registry.Registry) {
	t.Helper()
	s := &apiServer{t: t, script: script}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	client, err := discoveryclient.NewForConfigAndClient(&rest.Config{Host: s.server.URL}, s.server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return s, Open(clientset{client}, "shop")
}

func TestAPI(t *testing.T) {
	s, reg := serve(t,
		exchange{file: "list.json"},
		// The API server ends the watch after the bookmark; that is no error,
		// and the watch is taken up there, not at the last event.
		exchange{version: "1000", file: "watch-1000.jsonl"},
		// It has lost the history from there on: the list is read again.
		exchange{version: "1050", file: "watch-1050.jsonl"},
		exchange{file: "list-2100.json"},
		exchange{version: "2100", file: "watch-2100.jsonl", hold: true},
	)
	w := follow(t, reg, "orders")
	const a, b, c, d = "orders-6d4f-aaaaa", "orders-6d4f-bbbbb", "orders-6d4f-ccccc", "orders-6d4f-ddddd"
	u := w.until(t, "list after the last event", func(u update) bool { return u.snapshot.Revision == 2120 })
	if u.ids() != a+" "+d+"?" || u.err != nil {
		t.Errorf("last list [%s], error %v; want %s, and %s in quarantine", u.ids(), u.err, a, d)
	}
	inst := u.snapshot.Instances[0]
	for name, address := range map[string]string{"grpc": "10.1.0.1:9000", "http": "10.1.0.1:8080", "web": "10.1.0.1:8080", "admin": "10.1.0.1:9100"} {
		if inst.Endpoints[name] != address {
			t.Errorf("endpoints %v, want %s=%s", inst.Endpoints, name, address)
		}
	}
	if inst.Zone != "eu-1a" || inst.Metadata[NodeKey] != "node-1" || inst.State != registry.Up {
		t.Errorf("instance %+v, want zone, node and state of the endpoint", inst)
	}
	// Lists may be coalesced, but none may be wrong.
	allowed := map[string]bool{
		a + " " + b:            true, // the first list
		a + " " + b + " " + c:  true, // ADDED
		a + " " + b + "* " + c: true, // MODIFIED: b drains
		a + " " + c:            true, // MODIFIED: b is gone
		a:                      true, // the second list: c does not serve
		a + " " + d:            true, // ADDED
		a + " " + d + "?":      true, // DELETED, for whatever reason
	}
	for _, ids := range w.seen {
		if !allowed[ids] {
			t.Errorf("list [%s] is none that there was", ids)
		}
	}
	if got := strings.Count(s.requests(), "\n") + 1; got != 5 {
		t.Errorf("%d requests, want 5:\n%s", got, s.requests())
	}
}

func TestAPIRefusesOldVersion(t *testing.T) {
	// Some versions answer the request itself with 410, and not with an event.
	_, reg := serve(t,
		exchange{file: "list.json"},
		exchange{version: "1000", status: http.StatusGone, file: "gone.json"},
		exchange{file: "list-2100.json"},
		exchange{version: "2100", hold: true},
	)
	u := follow(t, reg, "orders").until(t, "second list", func(u update) bool { return u.snapshot.Revision == 2100 })
	if u.err != nil || u.ids() != "orders-6d4f-aaaaa orders-6d4f-bbbbb?" {
		// Nobody has seen what became of b.
		t.Errorf("list [%s], error %v; want b in quarantine and c left out", u.ids(), u.err)
	}
}

func TestAPIConnectionBreaks(t *testing.T) {
	s, reg := serve(t,
		exchange{file: "list.json"},
		exchange{version: "1000", hold: true},
		exchange{version: "1000", file: "watch-1000.jsonl", hold: true},
	)
	w := follow(t, reg, "orders")
	const a, b, c = "orders-6d4f-aaaaa", "orders-6d4f-bbbbb", "orders-6d4f-ccccc"
	w.untilIDs(t, a, b)
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(s.requests(), "watch=true") {
		if time.Now().After(deadline) {
			t.Fatal("no watch within 20s")
		}
		<-tick.C
	}
	s.server.CloseClientConnections()
	// The watch is taken up where it was, without an error or another list.
	if u := w.until(t, "next list", func(update) bool { return true }); u.err != nil {
		t.Errorf("error %v, want none", u.err)
	}
	w.untilIDs(t, a, b+"*", c)
}

func TestAPIFails(t *testing.T) {
	tests := []struct {
		name   string
		script []exchange
		want   string
	}{
		{"list is forbidden", []exchange{{status: http.StatusForbidden, file: "forbidden.json"}}, "cannot list resource"},
		{"watch is forbidden", []exchange{{file: "list.json"}, {version: "1000", status: http.StatusForbidden, file: "forbidden.json"}}, "watch endpoint slices of shop/orders"},
		{"no event", []exchange{{file: "list.json"}, {version: "1000", file: "list.json"}}, "unable to decode"},
		{"watches end at once", []exchange{{file: "list.json"}, {version: "1000"}, {version: "1000"}, {version: "1000"}}, "ends each watch at once"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, reg := serve(t, tt.script...)
			u := follow(t, reg, "orders").until(t, "error", func(u update) bool { return u.err != nil })
			if !strings.Contains(u.err.Error(), tt.want) {
				t.Errorf("error %q, want it to say %q", u.err, tt.want)
			}
		})
	}
}
