package framework

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"plinth.internal/config"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const docIntro = `# Configuration

Values are layered, the later one wins: the defaults in the code, a file (` + "`plinth.yaml`" + ` in the working directory, or ` + "`--config FILE`" + `), the
environment, the command line (` + "`--KEY=VALUE`" + `). A file nests the keys; the environment spells them in capitals with ` + "`_`" + `.

` + "```yaml" + `
server:
  grpc:
    addr: :9000
registry:
  endpoints: [etcd-1:2379, etcd-2:2379]
clients:
  default:
    timeout: 2s
  billing:
    methods:
      Charge:
        timeout: 500ms
` + "```" + `

Durations have a unit: ` + "`500ms`, `2s`, `1m30s`" + `. Lists are separated by commas in the environment and on the command line. ` + "`<name>`" + ` is a service or
a method; for clients the most specific value wins: ` + "`clients.default`, `clients.<service>`, `clients.<service>.methods.<Method>`" + `. In the environment
the dashes of a service's name are ` + "`_`: `PLINTH_CLIENTS_PRICE_LIST_TIMEOUT` is `clients.price-list.timeout`" + `. A variable does not tell upper from lower
case, so that it can change ` + "`clients.billing.methods.Charge`" + ` where a file or a flag names ` + "`Charge`" + `, and not add it; a flag can do both. ` + "`<Method>`" + ` is the
bare name, ` + "`Charge` and not `billing.v1.Billing/Charge`" + `.

Unknown keys and bad values end the start with an error that names the place, the key, the value and what is wanted. ` + "`/debug/config`" + ` shows every
value in use and where it came from; where one stands for something else, as one that is not set does most often, ` + "`effective`" + ` says for what
(for ` + "`clients.*`" + ` with what comes from less specific levels). A key that is given and does nothing, as ` + "`server.http.grpc_web` while `server.http.addr`" + ` is empty, is a warning in the log at the
start and after a change, ` + "`settings without effect`, and has `idle`" + ` beside it with the key that is in the way. A service's own keys stand beside these.

What is shown is masked: a ` + "`config.Secret`, and in every URL the password and the values of the query (`http://ann:***@host/?key=***`)" + `. A password in
` + "`registry.endpoints`, in `telemetry.trace.endpoint`" + ` or in another address of the framework's own is refused: the registry has ` + "`registry.username`" + ` and
` + "`registry.password`" + `, the exporter of traces takes its headers from ` + "`OTEL_EXPORTER_OTLP_HEADERS`" + `.

## Changes at run time

The file is followed while the service runs: a change of hot keys is in use within 1 s, for the calls that begin from then on. Other keys are read at
the start; where one was changed, the log and ` + "`/debug/config`" + ` name it as in need of a restart. A service reads its own hot keys with
` + "`config.Watch`" + `; it marks fields with the tag ` + "`hot:\"true\"`" + `, or none if all are.

A changed file is taken wholly or not at all. If anything in it is wrong, hot or not, or if it was there at the start and is gone, the values in use stay,
` + "`/health` is `degraded`" + ` with the error in the check ` + "`config`, `plinth_config_valid`" + ` is 0 and the log says what is wrong. The next good file makes it well again.
A change of ` + "`clients.*`" + ` that names a certificate, a bundle or a token which is missing or bad is such an error too, and is taken once what it names is good.

A level set with ` + "`PUT /debug/log`" + ` stays until the file names another one. The environment and the command line do not change at run time and win
over the file.

## Central documents

Where the registry is etcd, two documents in it lie above everything else, the command line too: ` + "`<namespace>/config/default`" + `, which all services
read, and above it ` + "`<namespace>/config/<service>`" + `. They are YAML, of 256 KiB at most, and a change is in use within 1 s everywhere. People write them with
` + "`scaffold config`" + `, which checks them first, keeps a history and notices when two write at once. ` + "`config.source: none`" + ` leaves them alone; a program that takes
Consul for its registry gives ` + "`framework.WithConfigFeed`" + ` the same keys of Consul's store.

They may set hot keys only, the framework's and the service's own. A cold key in them is an error, and so is an unknown one, with one exception:
in ` + "`default`" + ` a key outside of the framework's sections is most often another service's. Who does not know it ignores it and lists it on ` + "`/debug/config`" + `.

Each document is taken wholly or not at all. While one is bad its last good text stays in use, ` + "`/health`" + ` is ` + "`degraded`" + ` with the document, the line and the key in
the check ` + "`config`, and `plinth_config_valid`" + ` is 0; the other document and the file can change all the same. Documents that were good are kept in
` + "`registry.snapshot_dir`" + `. A service that starts while its document is bad, or while etcd does not answer, starts with what was kept, or without, and says so in
the same places; it waits for etcd for 1 s at most, and takes the document as soon as it can be had. One that is deleted sets nothing any more; one
that is missing because etcd has lost its data stays in use until it is written again.

` + "```" + `
$ scaffold config diff orders clients.billing.timeout=500ms
--- orders (revision 17, version 3 by ann@desk at 2026-11-02T09:12:44Z: billing is slow)
- clients.billing.timeout: 2s
+ clients.billing.timeout: 500ms
$ scaffold config set orders clients.billing.timeout=500ms -m "billing is well again"
- clients.billing.timeout: 2s
+ clients.billing.timeout: 500ms
orders is at revision 18, version 4; services use it within a second, or say on /health why not
$ scaffold config rollback orders 3
` + "```" + `

` + "`/debug/config`" + ` names the document, the line and the revision that a value comes from, and ` + "`plinth_config_revision`" + ` which revision an instance has.

## Keys

| key | default | hot | meaning |
|---|---|---|---|
`

// TestConfigurationDoc holds docs/configuration.md against the keys in the code;
// -update writes it.
func TestConfigurationDoc(t *testing.T) {
	var b strings.Builder
	b.WriteString(docIntro)
	defaults := defaultSettings()
	defaults.Service.Version = ""
	for _, k := range config.Describe(defaults) {
		if k.Doc == "" {
			t.Errorf("%s has no doc tag", k.Path)
		}
		value := "`" + k.Default + "`"
		if k.Default == "" {
			value = ""
		}
		hot := ""
		if k.Hot {
			hot = "hot"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, value, hot, k.Doc)
	}
	const path = "../docs/configuration.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is out of date; run go test ./framework -run TestConfigurationDoc -update", path)
	}
}
