package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"plinth.internal/internal/atomicfile"
)

// maxSnapshot is the size of the largest file that is read, in bytes: some
// documents of the largest size, as the file spells them.
const maxSnapshot = 16 * MaxDocument

// snapshot is the file that keeps the last good documents.
type snapshot struct {
	// Sum is the SHA-256 of Documents as they stand in the file, in hexadecimal.
	Sum       string          `json:"sha256"`
	Documents json.RawMessage `json:"documents"`
}

// keptDocument is a document in a snapshot.
type keptDocument struct {
	Name     string    `json:"name"`
	Revision int64     `json:"revision"`
	At       time.Time `json:"at"`
	Data     []byte    `json:"data"`
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// readSnapshot are the documents that are kept, by document of the feed; the zero
// text where there is none.
func (c *Config) readSnapshot() ([]text, error) {
	texts := make([]text, len(c.documents)-c.files)
	if c.central.Snapshot == "" {
		return texts, nil
	}
	file, err := os.Open(c.central.Snapshot)
	if errors.Is(err, fs.ErrNotExist) {
		return texts, nil
	}
	if err != nil {
		return texts, fmt.Errorf("read the documents kept on disk: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(file, maxSnapshot+1))
	if err != nil {
		return texts, fmt.Errorf("read the documents kept on disk: %w", err)
	}
	kept, err := decodeSnapshot(data)
	if err != nil {
		return texts, fmt.Errorf("read the documents kept on disk: %w", err)
	}
	for i, d := range c.documents[c.files:] {
		at := slices.IndexFunc(kept, func(k keptDocument) bool { return k.Name == d.source.Name })
		if at >= 0 {
			texts[i] = text{data: kept[at].Data, revision: kept[at].Revision, kept: kept[at].At}
		}
	}
	c.reloading.Lock()
	c.kept = texts
	c.reloading.Unlock()
	return texts, nil
}

// decodeSnapshot reads the file. One bit that is wrong makes all of it doubtful.
func decodeSnapshot(data []byte) ([]keptDocument, error) {
	if len(data) > maxSnapshot {
		return nil, fmt.Errorf("size of the file: must not exceed %d bytes", maxSnapshot)
	}
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Sum != checksum(s.Documents) {
		return nil, errors.New("the checksum does not match; the file is damaged")
	}
	var kept []keptDocument
	if err := json.Unmarshal(s.Documents, &kept); err != nil {
		return nil, err
	}
	for _, k := range kept {
		if k.At.IsZero() {
			return nil, fmt.Errorf("%s has no time", k.Name)
		}
	}
	return kept, nil
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// writeSnapshot keeps the documents in use, if they are not what is kept already.
// Failed says whether the last attempt failed, so that it is told once.
func (c *Config) writeSnapshot(tell func(Event), failed *bool) {
	if c.central.Snapshot == "" {
		return
	}
	err := c.keep()
	if err != nil && !*failed {
		tell(SnapshotFailed{Path: c.central.Snapshot, Err: err})
	}
	*failed = err != nil
}

func (c *Config) keep() error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	used := c.state.Load().texts[c.files:]
	if sameTexts(used, c.kept) {
		return nil
	}
	now := time.Now()
	kept := make([]keptDocument, 0, len(used))
	for i, t := range used {
		at := t.kept
		if at.IsZero() {
			at = now
		}
		kept = append(kept, keptDocument{Name: c.documents[c.files+i].source.Name, Revision: t.revision, At: at, Data: t.data})
	}
	if err := saveSnapshot(c.central.Snapshot, kept); err != nil {
		return err
	}
	c.kept = used
	return nil
}

// saveSnapshot writes the file in place of the one before. Whoever reads meanwhile
// finds one of the two.
func saveSnapshot(path string, kept []keptDocument) error {
	documents, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	data, err := json.Marshal(snapshot{Sum: checksum(documents), Documents: documents})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteDurable(path, data)
}
